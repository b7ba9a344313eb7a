//! Samples made into what an engineer speaks of: pools, blocks, peers, pods, routes with roles, look-ups.
//! Pure: no file, no socket, no clock.
