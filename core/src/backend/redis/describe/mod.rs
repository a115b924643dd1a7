//! What a deployment on Redis guarantees, read from what its servers say.

pub(crate) mod failure_modes;
pub(crate) mod info;
