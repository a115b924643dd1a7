//! Tells holders of the end of their leases before it comes.

use std::sync::Arc;

use super::{HeldLease, Manager};
use crate::error::Result;
use crate::runtime::deadline_queue::Wheel;

/// Looks at this lease when its margin begins, and again whenever it was extended meanwhile.
pub fn add(manager: &Arc<Manager>, held: &Arc<HeldLease>) -> Result<()> {
    static WATCHED: Wheel = Wheel::new(|manager, held| manager.look(held));
    WATCHED.add(held.warning(), manager, held)
}
