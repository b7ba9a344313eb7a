//! What somebody counted at the node, and who answered, around the moment of a sample.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{reading::Reading, state::BlackHole};

/// The ledger of the pods' traffic, as a running probe had it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// One after the other; what rose between them is what happened meanwhile. All but the last are without blocks.
    pub readings: Vec<Reading>,
    /// Those that were open at the end.
    pub black_holes: Vec<BlackHole>,
}

/// One address that was sent echo requests from the node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    pub address: Ipv4Addr,
    /// The node whose end of the tunnel it is; absent for a pod.
    pub peer: Option<Ipv4Addr>,
    /// Microseconds to the answer; absent without one.
    pub rtt_us: Option<u64>,
}
