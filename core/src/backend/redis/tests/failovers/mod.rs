//! Another server takes over.

mod behind_a_name;
mod cluster;
mod detours;
mod proofs;
mod sentinel;
mod takeovers;
mod told_losses;
