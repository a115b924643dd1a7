//! Another server takes over.

mod behind_a_name;
mod cluster;
mod sentinel;
mod told_losses;
