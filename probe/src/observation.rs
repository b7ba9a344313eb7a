//! What was sent, and where it was seen: the facts that `diagnose` adds to a sample. Serialisable, so that a
//! diagnosis can be judged again from a file.

use std::{fmt, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    causes::Cause,
    report::document::{Certainty, Direction, Subject},
    sample::NetfilterHook,
};

/// What probes are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// ICMP echo requests.
    #[default]
    Echo,
    /// Handshakes with a port, ended as soon as they are answered.
    Tcp(u16),
    /// Datagrams to a port.
    Udp(u16),
}

impl Traffic {
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Echo => None,
            Self::Tcp(port) | Self::Udp(port) => Some(port),
        }
    }

    /// IPv4 protocol number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Echo => 1,
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => text.write_str("ICMP"),
            Self::Tcp(port) => write!(text, "TCP port {port}"),
            Self::Udp(port) => write!(text, "UDP port {port}"),
        }
    }
}

/// What an observation without sight of drops says not to have seen.
pub const DROPS: &str = "drops and their reasons";

/// Probes from which a rate of loss is measured.
pub const ENOUGH_FOR_A_RATE: usize = 12;

/// The probes of one sender, which are told apart by their flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Those that the question is about.
    Asked,
    /// Small echo requests beside those of a port.
    Echo,
    /// Echo requests of many sizes that must not be fragmented.
    Sizes,
}

impl Series {
    /// At most this many senders are told apart: the sequence numbers of TCP have room for eight flows.
    pub const SENDERS: u8 = 2;

    /// The flow of a sender, counted from 0.
    pub fn flow(self, sender: u8) -> u8 {
        let first = match self {
            Self::Asked => 0,
            Self::Echo => Self::SENDERS,
            Self::Sizes => 2 * Self::SENDERS,
        };
        first + sender
    }
}

/// One packet seen by a packet tap of a device, from its inner IPv4 header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The device of the tap.
    pub link: u32,
    /// Whether the packet left through the device, rather than came in by it.
    pub outgoing: bool,
    /// Outer source and destination where the packet was behind an IPIP header.
    pub outer: Option<(Ipv4Addr, Ipv4Addr)>,
    pub packet: PacketId,
    /// `skb->mark`; `None` where the tap cannot see it.
    pub mark: Option<u32>,
    /// `skb->skb_iif`: the device by which it entered this namespace, 0 for none; `None` where the tap
    /// cannot see it.
    pub ingress_link: Option<u32>,
    /// Bytes from the (outer) IPv4 header on.
    pub length: u32,
    /// `None` where it was not looked at: long packets, other protocols.
    #[serde(default)]
    pub checksum: Option<Checksum>,
    /// Whether the (inner) packet must not be fragmented.
    #[serde(default)]
    pub unfragmentable: bool,
}

/// What identifies one followed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketId {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// IPv4 protocol number.
    pub protocol: u8,
    pub kind: PacketKind,
    /// Which of the senders' flows it belongs to (`Series::flow`); 0 when pairs are followed.
    pub flow: u8,
    /// The number of the probe; 0 when pairs are followed.
    pub sequence: u16,
    /// Source and destination port of TCP and UDP.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketKind {
    EchoRequest,
    EchoReply,
    /// An ICMP error that quotes a followed packet; its addresses are the error's own.
    IcmpError {
        icmp_type: u8,
        code: u8,
        /// RFC 1191: what fits, where the packet was too big.
        #[serde(default)]
        told_mtu: Option<u16>,
    },
    TcpSyn,
    /// SYN and ACK.
    TcpAccepted,
    TcpReset,
    /// To the port that is asked about.
    Datagram,
    /// From the port that is asked about.
    DatagramAnswer,
    Other,
}

/// What a TCP or UDP checksum of a followed packet covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    Good,
    /// The pseudo header alone: left for the device to finish, as between interfaces of one machine.
    Unfinished,
    Bad,
}

/// In whose network namespace a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropNamespace {
    /// The namespace that is being diagnosed.
    Own,
    /// Another one: a pod's, as far as followed packets go.
    Other,
    /// The socket buffer named none (pitfall: `skb->dev` is not always a device).
    Unknown,
}

/// One followed packet freed as a drop (`skb:kfree_skb`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropSighting {
    /// Name of the drop reason without its prefix, from the kernel's BTF; `None` where the kernel has none.
    pub reason: Option<String>,
    /// The function that freed it, without compiler suffixes; `None` where kallsyms did not tell.
    pub symbol: Option<String>,
    /// `skb->dev`, where it is a device.
    pub link: Option<u32>,
    pub ingress_link: u32,
    pub mark: u32,
    pub namespace: DropNamespace,
    /// The hook whose rules dropped it, from the kernel stack.
    pub hook: Option<NetfilterHook>,
    pub outer: Option<(Ipv4Addr, Ipv4Addr)>,
    pub packet: PacketId,
    /// Bytes from the (outer) IPv4 header on.
    #[serde(default)]
    pub length: u32,
}

/// What a node says of packets that its rules dropped, where it does not show the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldDrop {
    /// Whose packets they were (`Series::flow`).
    pub flow: u8,
    pub direction: Direction,
    pub hook: NetfilterHook,
    pub cause: Cause,
    pub certainty: Certainty,
    /// Mostly the chain.
    pub subject: Subject,
    /// One sentence without a full stop, and without the rule's text.
    pub summary: String,
}

/// What became of one probe, as its sender saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutcome {
    pub flow: u8,
    pub sequence: u16,
    /// Microseconds from sending to the answer; `None` without an answer.
    pub round_trip_us: Option<u64>,
    /// The error of the send call, as its symbolic name (`EINVAL`).
    pub send_error: Option<String>,
    /// Who answered with an ICMP error, and which.
    pub icmp_error: Option<(Ipv4Addr, u8, u8)>,
    /// Whether the answer was a refusal: a reset, or ICMP port or protocol unreachable.
    #[serde(default)]
    pub refused: bool,
    /// The error that ended it after it was sent, as its symbolic name (`EHOSTUNREACH`).
    #[serde(default)]
    pub failure: Option<String>,
    /// The port that it was sent from.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// Whether the time ran out before it could be given up: that it has no answer says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// Bytes of the whole IPv4 packet, where sizes are tried.
    #[serde(default)]
    pub size: Option<u16>,
    /// The MTU that an ICMP error told the sender for it.
    #[serde(default)]
    pub told_mtu: Option<u16>,
}

/// What the kernel's own look-up said for the packets of one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRoute {
    pub flow: u8,
    /// Output device and gateway, or the name of the error.
    pub answer: Result<(Option<u32>, Option<Ipv4Addr>), String>,
}

/// One attempt at a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    pub flow: u8,
    pub port: u16,
    pub accepted: bool,
}

/// Everything that one diagnosis saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub probes: Vec<ProbeOutcome>,
    /// In the order in which they were seen.
    pub sightings: Vec<Sighting>,
    pub drops: Vec<DropSighting>,
    /// The kernel's own look-ups, asked after the probes.
    #[serde(default)]
    pub kernel_routes: Vec<KernelRoute>,
    /// TCP handshakes, tried where echo requests told nothing.
    #[serde(default)]
    pub handshakes: Vec<Handshake>,
    /// Echo requests to the nodes among which a block's route shares packets out.
    #[serde(default)]
    pub next_hop_echoes: Vec<PeerEcho>,
    /// What could not be observed, and why (no eBPF, no BTF, events lost).
    pub limits: Vec<(String, String)>,
    /// Why followed packets may have passed a tap unseen. Where there is no reason, what was not seen was not there.
    #[serde(default)]
    pub missed: Vec<String>,
    /// Verdicts of the node that was asked over the network, where it keeps its rules for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<ToldDrop>,
}

impl Observation {
    /// Keeps the packets of so many probes, first of those that the question is about; says so where others are left
    /// out.
    pub fn keep_probes(&mut self, most: usize) {
        let packets = || {
            let seen = self.sightings.iter().map(|sighting| sighting.packet);
            seen.chain(self.drops.iter().map(|drop| drop.packet))
        };
        let is_asked = |flow: u8| flow < Series::SENDERS;
        let mut numbers: Vec<(u8, u16)> = packets().map(|packet| (packet.flow, packet.sequence)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        // Their flows have the lowest numbers.
        let left_out = numbers.split_off(most.min(numbers.len()));
        if left_out.is_empty() {
            return;
        }
        let is_kept = |packet: PacketId| numbers.contains(&(packet.flow, packet.sequence));
        self.sightings.retain(|sighting| is_kept(sighting.packet));
        self.drops.retain(|drop| is_kept(drop.packet));
        let why = format!("{} probes more than {most} are not told", left_out.len());
        if left_out.iter().any(|(flow, _)| is_asked(*flow)) {
            self.missed.push(why.clone());
        }
        self.limits.push(("every packet".to_owned(), why));
    }

    /// Whether what was dropped, on this node or inside its pods, would have been seen.
    pub fn sees_drops(&self) -> bool {
        self.limits.iter().all(|(what, _)| what != DROPS)
    }
}

/// One echo request to another node, or to its end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerEcho {
    pub peer: Ipv4Addr,
    pub address: Ipv4Addr,
    /// Whether the datastore says that this is its tunnel address; otherwise it is the first of a block, which it
    /// mostly is, and silence proves nothing.
    pub certain: bool,
    /// Microseconds to the answer; `None` without one.
    pub rtt_us: Option<u64>,
}

/// Something that happened to a followed packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FollowedEvent {
    Seen(Sighting),
    Dropped(DropSighting),
}

/// What began a connection to which nothing was answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Opening {
    Tcp {
        /// Source and destination, before any NAT.
        ports: (u16, u16),
    },
    Echo {
        identifier: u16,
    },
}

/// A SYN or an echo request that has left this node and that nothing came back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Who sent it.
    pub sender: Ipv4Addr,
    /// The addresses that it left with, whatever NAT made of them.
    pub source: Ipv4Addr,
    pub target: Ipv4Addr,
    pub opening: Opening,
    /// How long ago the last packet was sent, to a second.
    pub last_sent: Duration,
}

impl Unanswered {
    /// Whether it is the same connection.
    pub fn is(&self, other: &Self) -> bool {
        (self.sender, self.source, self.target, self.opening)
            == (other.sender, other.source, other.target, other.opening)
    }
}

/// What a peer answered that was silent: one echo request to the node itself, and one to its end of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub peer: Ipv4Addr,
    /// Whether the node itself answered.
    pub node: bool,
    /// The address that was taken for its end of the tunnel, and whether it answered; `None` where none is known.
    pub tunnel_end: Option<(Ipv4Addr, bool)>,
    /// ICMP errors for one of them, or for any packet that was encapsulated for it: who sent it, its type and code.
    pub errors: Vec<(Ipv4Addr, u8, u8)>,
}
