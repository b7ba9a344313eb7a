//! Clean-ups on a real kernel, in network namespaces: carried out, refused, rolled back, killed, undone.

mod boundaries;
mod node;
mod refused;
mod refused_midway;
mod rolled_back;
