//! What the ledger of a running probe held at one moment: facts, serialisable, nothing derived.
//!
//! Counters are cumulative since `covered_since` of each device, or since the ledger was made. Segments are the
//! packets that the stack puts on the wire for a buffer; buffers are what interface counters count.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub segments: u64,
    pub buffers: u64,
}

/// All that a running probe has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// RFC 3339.
    pub time: String,
    pub node: NodeCounts,
    /// By name of the device.
    pub links: Vec<LinkCounts>,
    /// By first address.
    pub blocks: Vec<BlockCounts>,
    /// By address.
    pub peers: Vec<PeerCounts>,
    pub drops: Vec<DropCounts>,
    /// The last of the host's own bare packets to a pool since the reading before.
    #[serde(default)]
    pub last_host_bare: Option<LastBare>,
    /// Whether drops are counted at all: without the kernel's BTF they are not.
    #[serde(default)]
    pub drops_counted: bool,
    /// What is not counted, or not told apart, and why.
    pub limits: Vec<String>,
}

/// The four points of encapsulated traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flow {
    pub to_tunnel: Count,
    pub to_wire: Count,
    pub from_wire: Count,
    pub from_tunnel: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeCounts {
    #[serde(flatten)]
    pub flow: Flow,
    /// The host's own packets for a pool that left without encapsulation.
    pub host_bare: Count,
    /// Encapsulated packets that this node routes for others, where they came in.
    pub transit: Count,
    /// Fragments of outer packets, at any wire.
    pub outer_fragments: u64,
    /// IPv4 by its link-layer header, and too short for one of its own.
    pub truncated: u64,
    /// Drops that found no room under a key of their own.
    pub drops_without_room: u64,
}

/// A pod interface, from the node's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkCounts {
    pub link: u32,
    pub name: String,
    /// RFC 3339; absent where no program is attached yet.
    pub covered_since: Option<String>,
    pub from_pod: Count,
    pub to_pod: Count,
    pub encapsulated: Count,
    pub same_node: Count,
    pub bare: Count,
    /// The part of `bare` that went to pod pools.
    pub bare_to_pool: Count,
    /// The last of these since the reading before.
    #[serde(default)]
    pub last_bare: Option<LastBare>,
    /// Freed as drops between the hooks of this node.
    pub dropped: Count,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockCounts {
    pub block: Ipv4Net,
    #[serde(flatten)]
    pub flow: Flow,
}

/// Encapsulated packets of one way between this node and a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerWay {
    pub segments: u64,
    pub buffers: u64,
    /// Of the buffers, link-layer header included.
    pub bytes: u64,
    pub fragments: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerCounts {
    pub peer: Ipv4Addr,
    pub encapsulated: PeerWay,
    pub decapsulated: PeerWay,
}

/// Where a packet was when it was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropPlace {
    Node,
    /// In a namespace other than the node's.
    InsideAPod,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DropCounts {
    /// `enum skb_drop_reason` by name; absent where the kernel gives none.
    pub reason: Option<String>,
    /// The function that freed the packet; absent where symbols are hidden.
    pub symbol: Option<String>,
    pub place: DropPlace,
    /// Name of the device, where the packet had one.
    pub device: Option<String>,
    /// Name of the device by which it came in.
    pub ingress_device: Option<String>,
    /// The block of its inner destination, where that is in a pool.
    pub block: Option<Ipv4Net>,
    pub encapsulated: bool,
    pub count: Count,
    /// The packet that was counted last.
    #[serde(default)]
    pub last: Option<LastDropped>,
}

/// A packet that was dropped. Inner addresses where it was encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDropped {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Outer source and destination where it was encapsulated.
    pub outer: Option<(Ipv4Addr, Ipv4Addr)>,
    pub mark: u32,
    /// IPv4 protocol number.
    pub protocol: u8,
}

/// A packet that left bare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBare {
    /// Unspecified (0.0.0.0) for the host itself, whose address is not kept.
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Index of the device by which it left.
    pub link: u32,
}

/// What a device has received since it exists, by its own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    pub link: u32,
    pub packets: u64,
    /// Link-layer headers included.
    pub bytes: u64,
}

impl LinkCounts {
    /// What came from the pod and has no outcome: delivered to the node itself, queued, or taken by others.
    /// Negative where an outcome was counted for packets that came in before the hook was there.
    #[must_use]
    pub fn remainder(&self) -> i128 {
        let outcomes = [self.encapsulated, self.same_node, self.bare, self.dropped];
        let sum: i128 = outcomes.iter().map(|count| i128::from(count.segments)).sum();
        i128::from(self.from_pod.segments) - sum
    }
}
