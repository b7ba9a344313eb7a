//! Clean-ups on a real kernel, in network namespaces: carried out, refused, rolled back, killed, undone.

mod boundaries;
mod node;
mod refused;
mod rolled_back;
