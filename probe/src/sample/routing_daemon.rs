//! BIRD, Calico's routing daemon.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Fact;

/// What BIRD says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bird {
    /// As its greeting names it, such as `v0.3.3+birdv1.6.8`; absent where only a table of peers was shown.
    pub version: Fact<String>,
    pub router_id: Option<Ipv4Addr>,
    /// A graceful restart is being recovered from: until it ends BIRD writes no route.
    pub recovering: bool,
    pub sessions: Vec<BgpSession>,
    /// What BIRD has in its table, to be compared with the kernel's.
    pub routes: Fact<Vec<BirdRoute>>,
}

/// How Calico came to configure a session, from the name of its protocol
/// (`calicoctl/calicoctl/commands/node/status.go`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// `Mesh_…`: every node peers with every other.
    NodeToNodeMesh,
    /// `Node_…`: a `BGPPeer` resource for this node.
    NodeSpecific,
    /// `Global_…`: a `BGPPeer` resource for every node, such as a route reflector.
    Global,
    #[default]
    #[serde(other)]
    Other,
}

/// One BGP session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpSession {
    /// The name of BIRD's protocol; empty where only `calicoctl` showed the peer.
    pub name: String,
    pub peer: Ipv4Addr,
    pub kind: PeerKind,
    /// Whether the state of the session is Established.
    pub established: bool,
    /// BIRD's state of the session: `Idle`, `Connect`, `Active`, `Passive`, `OpenSent`, `OpenConfirm`,
    /// `Established`, `Close`, `Down`.
    pub state: String,
    /// Since when, as BIRD prints it: a time of day, or a date.
    pub since: String,
    /// The last error, such as `Socket: Connection refused`; empty where there is none.
    pub error: String,
    /// This end's address.
    pub source: Option<Ipv4Addr>,
    /// Routes taken from the peer; absent where only a table of peers was shown.
    pub imported: Option<u32>,
    pub exported: Option<u32>,
}

/// One route of BIRD's own table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirdRoute {
    pub destination: Ipv4Net,
    /// What the next hop resolves to: a router where the other node is behind one. Absent for routes to devices
    /// and blackholes.
    pub gateway: Option<Ipv4Addr>,
    /// The next hop that the peer announced, `BGP.next_hop`: the node that has the pods.
    pub next_hop: Option<Ipv4Addr>,
    /// The underlay's device, also where the kernel's route goes through `tunl0`.
    pub device: Option<String>,
    /// Name of the protocol that BIRD has it from, such as `Mesh_172_30_10_187`, `static1`, `kernel1`.
    pub protocol: String,
    /// BIRD prefers it among those to the same destination.
    pub best: bool,
    /// The kernel refused it.
    pub refused: bool,
    /// BIRD cannot resolve its next hop.
    pub unreachable: bool,
}
