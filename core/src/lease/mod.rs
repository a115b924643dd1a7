//! What a lock is made of.

mod acks;
mod holder;
mod mode;
mod owner;
mod resources;
mod strategy;
pub mod token;
mod ttl;

pub use self::acks::{AckPolicy, Acks};
pub use self::holder::{Holder, HolderId, MAX_HOLDER_BYTES};
pub use self::mode::Mode;
pub use self::owner::Owner;
pub use self::resources::{MAX_RESOURCE_BYTES, Resources};
pub use self::strategy::{PerStrategy, Strategy};
pub use self::ttl::Ttl;
