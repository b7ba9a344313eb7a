//! The JSON contract: fields may be added, never renamed; values are kebab-case. Here is what every command's
//! document begins with, the document of `diagnose`, and the findings that others share.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    model::Model,
    observation,
    sample::{Sample, UnreadableLine},
};

/// The version that the documents carry.
pub const SCHEMA_VERSION: u32 = 1;

/// What every document begins with.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    pub schema_version: u32,
    pub command: &'static str,
    pub version: &'static str,
    /// RFC 3339, UTC.
    pub time: String,
    pub node: Node,
}

impl Header {
    pub fn new(command: &'static str, time: impl Into<String>, node: Node) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self { schema_version: SCHEMA_VERSION, command, version, time: time.into(), node }
    }
}

/// What of `not_seen` says why the target's node was not asked, or could not be.
pub const FAR_NODE: &str = "the far node";

#[derive(Clone, Debug, Serialize)]
pub struct Document {
    #[serde(flatten)]
    pub header: Header,
    /// The node to which the packets were sent, where it was asked too.
    pub far_node: Option<Node>,
    pub verdict: Verdict,
    pub target: Target,
    pub source: Source,
    pub lost_at: Option<Place>,
    pub probes: Probes,
    /// TCP connections that were tried, where echo requests told nothing.
    pub handshakes: Vec<Handshake>,
    pub findings: Vec<Finding>,
    pub path: Vec<PathPoint>,
    pub not_seen: Vec<NotSeen>,
    pub next: Vec<Next>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    /// The node's address that peers use; absent where no route or set told it.
    pub address: Option<Ipv4Addr>,
    pub kernel: String,
}

impl Node {
    /// The node of a sample.
    pub fn of(model: &Model<'_>) -> Self {
        let kernel = model.sample.node.kernel.clone();
        Self { name: model.node_name(), address: model.own_address(), kernel }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Reachable,
    BlackHole,
    Degraded,
    Denied,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    pub address: Ipv4Addr,
    /// `namespace/name`, where the CNI cache or the interface's name told it.
    pub pod: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    Pod,
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    pub kind: SourceKind,
    pub address: Option<Ipv4Addr>,
    pub interface: Option<String>,
    /// Whether the probe chose it, rather than the caller.
    pub chosen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Towards the target.
    Forward,
    /// The answer.
    Return,
}

/// The stages of a packet's way, in the order in which it passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Pod,
    PodLink,
    Routing,
    Netfilter,
    Neighbour,
    Tunnel,
    Underlay,
    Decap,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub node: String,
    /// Absent where one end alone cannot tell.
    pub direction: Option<Direction>,
    pub stage: Stage,
    pub device: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probes {
    pub protocol: Protocol,
    /// The target's port; absent for ICMP.
    pub port: Option<u16>,
    pub sent: u32,
    /// Refusals are answers.
    pub answered: u32,
    pub refused: u32,
    /// Where probes of a port were sent from.
    pub source_ports: Vec<u16>,
    /// Median of the answered probes, microseconds.
    pub rtt_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Icmp,
    Tcp,
    Udp,
}

impl Protocol {
    pub fn words(self) -> &'static str {
        match self {
            Self::Icmp => "ICMP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

impl From<observation::Traffic> for Protocol {
    fn from(traffic: observation::Traffic) -> Self {
        match traffic {
            observation::Traffic::Echo => Self::Icmp,
            observation::Traffic::Tcp(_) => Self::Tcp,
            observation::Traffic::Udp(_) => Self::Udp,
        }
    }
}

/// One attempt at a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Handshake {
    pub port: u16,
    pub accepted: bool,
}

impl From<&observation::Handshake> for Handshake {
    fn from(handshake: &observation::Handshake) -> Self {
        Self { port: handshake.port, accepted: handshake.accepted }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    Proven,
    Inferred,
}

/// One cause, with what shows it and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub cause: crate::causes::Cause,
    pub severity: Severity,
    pub certainty: Certainty,
    pub subject: Subject,
    /// One sentence without a full stop; it stands in the first line.
    pub summary: String,
    pub evidence: Vec<Evidence>,
    pub fix: Vec<Fix>,
    pub explained_by: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub kind: SubjectKind,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    Route,
    Block,
    Pod,
    Peer,
    Interface,
    Sysctl,
    Chain,
    Address,
    /// A node as a whole.
    Node,
    /// A table of the kernel that may be full.
    Table,
    /// A log file.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceSource {
    Route,
    Drop,
    Counter,
    Neighbour,
    Sysctl,
    Link,
    Bird,
    Rule,
    Probe,
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub source: EvidenceSource,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixKind {
    /// At the owner of what is wrong.
    Cure,
    /// Works now; the text says who undoes it and when.
    Stopgap,
    /// Shows whether the finding holds, or whether it is gone.
    Confirm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    pub run: String,
    /// A node's name or address, or `kubectl`.
    pub on: String,
    pub kind: FixKind,
    pub changes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathPoint {
    pub point: Point,
    pub direction: Direction,
    pub node: String,
    pub device: String,
    pub packets: u32,
    pub bytes: u64,
}

/// Where the probes can see a packet pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    FromPod,
    ToTunnel,
    ToWire,
    FromWire,
    FromTunnel,
    ToPod,
    /// Pod traffic that left, or came in, by another device without encapsulation.
    Bare,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotSeen {
    pub what: String,
    pub why: String,
}

impl NotSeen {
    /// Lines of pasted outputs that tell nothing, as they stand.
    pub fn of_lines(sample: &Sample) -> Vec<Self> {
        let line = |line: &UnreadableLine| Self {
            what: format!("a line of {}: {}", line.output, line.text),
            why: line.why.clone(),
        };
        sample.unreadable.iter().map(line).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    pub node: String,
    pub command: String,
}
