//! Tells holders of the end of their leases before it comes.

use std::sync::Arc;

use crate::error::Result;
use crate::manager::{Held, Manager};
use crate::wheel::Wheel;

/// Looks at this lease when its margin begins, and again whenever it was extended meanwhile.
pub fn add(manager: &Arc<Manager>, held: &Arc<Held>) -> Result<()> {
    static WATCHED: Wheel = Wheel::new(|manager, held| manager.look(held));
    WATCHED.add(held.warning(), manager, held)
}
