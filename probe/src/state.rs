//! What a running daemon knows at one moment: what it counted, which black holes are open, and how it fares itself.
//! Serialisable: the local API, the metrics and the screen are views of it, and who asks another version of the
//! daemon reads it with the same types.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{
    causes::Cause,
    reading::Reading,
    report::document::{Finding, Node, Place, Subject},
    sample::{BgpSession, Fact, Link},
};

/// The whole of it. All times are RFC 3339, UTC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub schema_version: u32,
    /// Of caliprobe.
    pub version: String,
    /// When the daemon started: counters begin at zero then.
    pub started: String,
    /// When the ledger was read last.
    pub time: String,
    pub node: Node,
    /// Cumulative since each device's `covered_since`.
    pub reading: Reading,
    pub sessions: Fact<Vec<BgpSession>>,
    /// How many blocks this node's routes send to another node without encapsulation, as CrossSubnet does. Bare
    /// packets to a pool are leaks only where there is none.
    pub bare_blocks: usize,
    /// `tunl0` with the kernel's own counters.
    pub tunnel: Fact<Link>,
    /// Those that are open, the one that opened first at the beginning.
    pub black_holes: Vec<BlackHole>,
    pub health: Health,
}

/// Pod traffic that was lost in one way, from the first packet until none was lost for a while, or the cause was gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlackHole {
    /// Unique among the black holes of this node, over restarts.
    pub id: String,
    pub opened: String,
    /// Absent while it is open.
    pub closed: Option<String>,
    /// Absent where packets are lost and nothing proves why, and where a newer daemon names one that is not known here.
    #[serde(default, deserialize_with = "if_understood")]
    pub cause: Option<Cause>,
    pub subject: Subject,
    #[serde(default, deserialize_with = "if_understood")]
    pub place: Option<Place>,
    /// One sentence without a full stop.
    pub summary: String,
    /// Segments lost since it opened; a lower bound.
    pub packets: u64,
    /// The whole finding, where there is a cause.
    #[serde(default, deserialize_with = "if_understood")]
    pub finding: Option<Finding>,
}

/// Nothing in the place of what a newer version says in words that this one does not know.
fn if_understood<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let said = Option::<serde_json::Value>::deserialize(from)?;
    Ok(said.and_then(|said| serde_json::from_value(said).ok()))
}

/// Encapsulated packets between this node and a peer since the daemon started, in segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTraffic {
    pub peer: Ipv4Addr,
    pub encapsulated: u64,
    pub decapsulated: u64,
    /// When the first counter rose last, to the interval at which the ledger is read.
    pub last_sent: Option<String>,
    /// When the second one did.
    pub last_heard: Option<String>,
}

impl PeerTraffic {
    /// None yet.
    pub fn of(peer: Ipv4Addr) -> Self {
        Self { peer, encapsulated: 0, decapsulated: 0, last_sent: None, last_heard: None }
    }
}

/// The peers' traffic, as the local API tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traffic {
    pub schema_version: u32,
    /// Of caliprobe; empty where a daemon of 0.1.0 does not say it.
    #[serde(default)]
    pub version: String,
    /// When the daemon started.
    pub started: String,
    pub time: String,
    pub peers: Vec<PeerTraffic>,
}

/// How the daemon itself fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Devices that have their programs.
    pub covered: usize,
    /// Devices that wait for theirs.
    pub pending: usize,
    /// Devices that took none, and why.
    pub refused: BTreeMap<String, String>,
    /// `tcx` or `clsact`; absent before the first device.
    pub attached_by: Option<String>,
    /// How often the kernel lost notifications of changes, and everything was read again.
    pub overruns: u64,
    /// How often the node could not be read.
    pub failed_reads: u64,
    /// Events that found no room in the journal on disk.
    pub lost_events: u64,
    /// Of the tables that are shared with the kernel programs.
    pub tables: Vec<TableUse>,
    /// How long reading the ledger took last, microseconds.
    pub read_us: u64,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableUse {
    pub name: String,
    pub used: u64,
    pub capacity: u64,
}

/// What happened, as the journal on disk keeps it: a line of JSON each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: String,
    pub kind: EventKind,
    pub black_hole: BlackHole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    Opened,
    /// The cause became known, or turned out to be another one.
    Explained,
    Closed,
}
