//! A dropped packet as the rules of its hook saw it.

use std::net::Ipv4Addr;

use crate::{
    causes::case::Case,
    model::{
        netfilter::{Bits, Device, Firewall, Packet, Transport},
        routing::{Flow, look_up, output_links},
    },
    observation::{DropSighting, PacketId, PacketKind},
    report::document::Direction,
    sample::{ConnectionState, NetfilterHook},
};

pub const ICMP: u8 = 1;
pub const IPIP: u8 = 4;
pub const TCP: u8 = 6;

/// Flags of a TCP header, RFC 9293.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Followed packets that met a hook and were lost there.
pub struct Meeting<'a> {
    pub hook: NetfilterHook,
    pub direction: Direction,
    pub packet: Packet<'a>,
    /// The states that conntrack may have had it in.
    pub states: Vec<ConnectionState>,
    /// Its mark when it was dropped.
    pub last_mark: u32,
    /// How many were dropped like this one.
    pub lost: u64,
}

impl<'a> Meeting<'a> {
    pub fn of(case: &Case<'a>, direction: Direction, hook: NetfilterHook, drop: &DropSighting) -> Self {
        let like =
            |other: &DropSighting| other.hook == drop.hook && other.outer.is_some() == drop.outer.is_some();
        let lost = case.trail.drops.iter().filter(|d| d.direction == direction && like(d.drop)).count();
        Self {
            hook,
            direction,
            packet: packet(case, hook, drop),
            states: states(case, direction, drop),
            last_mark: drop.mark,
            lost: u64::try_from(lost).unwrap_or(u64::MAX).max(1),
        }
    }

    /// The packet with what the rules cannot have changed of its mark: what it had in the end.
    pub fn packet_before(&self, firewall: &Firewall<'_>) -> Packet<'a> {
        let mark = Bits::partly(self.last_mark, !firewall.changed_mark_bits(self.hook));
        Packet { mark, ..self.packet.clone() }
    }
}

fn packet<'a>(case: &Case<'a>, hook: NetfilterHook, drop: &DropSighting) -> Packet<'a> {
    let (source, destination, protocol, transport) = match drop.outer {
        Some((source, destination)) => (source, destination, IPIP, Transport::Unknown),
        None => (drop.packet.source, drop.packet.destination, drop.packet.protocol, transport(&drop.packet)),
    };
    let known = |index: Option<u32>| {
        let link = index.and_then(|index| case.link(index));
        link.map_or(Device::Unknown, |link| Device::Known { index: link.index, name: &link.name })
    };
    // `skb->dev` is the device that it came in by until it is about to leave; for this host's own it is none, or
    // that of the packet within.
    let entered = drop.link.filter(|_| hook != NetfilterHook::Output);
    let leaving = || known(output(case, hook, drop, (source, destination)));
    let (input, output) = match hook {
        NetfilterHook::Prerouting | NetfilterHook::Input => (known(entered), Device::Absent),
        NetfilterHook::Forward => (known(entered), leaving()),
        NetfilterHook::Output => (Device::Absent, leaving()),
        NetfilterHook::Postrouting => (Device::Unknown, leaving()),
    };
    Packet { source, destination, protocol, transport, input, output, mark: Bits::UNKNOWN, connection: None }
}

fn transport(packet: &PacketId) -> Transport {
    let tcp_flags = match packet.kind {
        PacketKind::EchoRequest => return Transport::Icmp { icmp_type: 8, code: 0 },
        PacketKind::EchoReply => return Transport::Icmp { icmp_type: 0, code: 0 },
        PacketKind::IcmpError { icmp_type, code, .. } => return Transport::Icmp { icmp_type, code },
        PacketKind::TcpSyn => Some(SYN),
        PacketKind::TcpAccepted => Some(SYN | ACK),
        // With or without ACK.
        PacketKind::TcpReset | PacketKind::Datagram | PacketKind::DatagramAnswer | PacketKind::Other => None,
    };
    let (source, destination) = packet.ports.unzip();
    Transport::Ports { source, destination, tcp_flags }
}

/// The only device by which it can leave, as the routes have it.
fn output(
    case: &Case<'_>,
    hook: NetfilterHook,
    drop: &DropSighting,
    (source, destination): (Ipv4Addr, Ipv4Addr),
) -> Option<u32> {
    let forwarded = hook == NetfilterHook::Forward;
    let flow = Flow {
        source: Some(source),
        destination,
        input_link: drop.link.filter(|_| forwarded),
        mark: if drop.outer.is_some() && !forwarded { 0 } else { drop.mark },
        tos: 0,
    };
    let links = output_links(&look_up(case.model, &flow));
    if links.len() == 1 { links.into_iter().next() } else { None }
}

/// A probe that nothing answered is the first of its connection, or of none; what comes back belongs to one, or to
/// none.
fn states(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Vec<ConnectionState> {
    use ConnectionState::{Established, Invalid, New, Untracked};
    let answered = case.trail.steps.iter().any(|step| step.direction == Direction::Return)
        || case.probes().any(|probe| probe.round_trip_us.is_some());
    match (drop.outer, drop.packet.kind, direction) {
        (None, PacketKind::EchoRequest | PacketKind::TcpSyn | PacketKind::Datagram, Direction::Forward)
            if !answered =>
        {
            vec![New, Invalid, Untracked]
        }
        (
            None,
            PacketKind::EchoReply
            | PacketKind::TcpAccepted
            | PacketKind::TcpReset
            | PacketKind::DatagramAnswer,
            _,
        ) => vec![Established, Invalid, Untracked],
        _ => ConnectionState::ALL.to_vec(),
    }
}
