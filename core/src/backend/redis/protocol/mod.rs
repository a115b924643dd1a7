//! What is sent to a server, and what its replies mean.

pub(crate) mod replies;
pub(crate) mod scripts;
pub(crate) mod values;
