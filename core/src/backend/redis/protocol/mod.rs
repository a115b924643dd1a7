//! What is sent to a server, and what do its replies mean?

pub(crate) mod decoder;
pub(crate) mod lease_args;
pub(crate) mod listing;
pub(crate) mod operation;
pub(crate) mod packer;
pub(crate) mod permissions;
pub(crate) mod redaction;
pub(crate) mod replies;
pub(crate) mod scripts;
pub(crate) mod values;

#[cfg(test)]
mod tests;
