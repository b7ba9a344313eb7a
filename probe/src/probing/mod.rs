//! Probes sent from a pod or the host, and followed.
//!
//! This room is beside `sources` because it does more than read: it sends packets of its own. Nothing else of
//! the machine is changed.

pub mod answer;
pub mod echo;
pub mod everyone;
pub mod flow_id;
pub mod follow;
pub mod follower;
pub mod greeting;
pub mod handshake;
pub mod icmp;
pub mod marks;
mod options;
pub mod packet;
pub mod peer;
pub mod peers;
pub mod port;
pub mod rounds;
