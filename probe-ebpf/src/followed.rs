//! Which packets a diagnosis follows: its own probes and what answers them, or all between two addresses.

use aya_ebpf::{Global, macros::map, maps::Array};
use probe_common::trace::{
    BY_PAIR, CHECKSUM_BAD, CHECKSUM_GOOD, CHECKSUM_UNFINISHED, CHECKSUM_UNREAD, CHECKSUMMED, COOKIE,
    ENCAPSULATED, Follow, PORT_WORDS, QUOTED, TraceEvent, read_sequence,
};

#[unsafe(no_mangle)]
static FOLLOW: Global<Follow> = Global::new(Follow {
    cookie: [0; COOKIE],
    mode: 0,
    source: [0; 4],
    target: [0; 4],
    port: 0,
    protocol: 0,
    padding: 0,
});

/// The ports from which datagrams were sent, a bit each.
#[map]
static PROBE_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_IPIP: u8 = 4;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const ICMP_HEADER: u32 = 8;
const UDP_HEADER: u32 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Of an IPv4 header's third pair of bytes: RFC 791.
const FRAGMENT_OFFSET: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;
const DO_NOT_FRAGMENT: u16 = 0x4000;

/// Bytes of a packet from its network header on.
pub(crate) trait Packet {
    fn load<T: Copy>(&self, offset: u32) -> Option<T>;
}

/// The parts of an IPv4 header that are needed.
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    first_fragment: bool,
    whole: bool,
    unfragmentable: bool,
    /// Where its payload starts, from the network header on.
    payload: u32,
    /// Bytes of its payload, as the header tells.
    length: u32,
}

#[inline(always)]
fn ipv4(packet: &impl Packet, offset: u32) -> Option<Ipv4> {
    let header: [u8; 20] = packet.load(offset)?;
    let length = u32::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    Some(Ipv4 {
        source: [header[12], header[13], header[14], header[15]],
        destination: [header[16], header[17], header[18], header[19]],
        protocol: header[9],
        first_fragment: fragment & FRAGMENT_OFFSET == 0,
        whole: fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == 0,
        unfragmentable: fragment & DO_NOT_FRAGMENT != 0,
        payload: offset + length,
        length: u32::from(u16::from_be_bytes([header[2], header[3]])).saturating_sub(length),
    })
}

/// Fills in the event if the packet is one that is followed.
#[inline(always)]
pub(crate) fn recognise(packet: &impl Packet, event: &mut TraceEvent) -> Option<Ipv4> {
    let mut inner = ipv4(packet, 0)?;
    if inner.protocol == PROTOCOL_IPIP && inner.first_fragment {
        event.outer_source = inner.source;
        event.outer_destination = inner.destination;
        event.flags |= ENCAPSULATED;
        inner = ipv4(packet, inner.payload)?;
    }
    event.source = inner.source;
    event.destination = inner.destination;
    event.protocol = inner.protocol;
    event.unfragmentable = u8::from(inner.unfragmentable);
    if inner.first_fragment {
        read_transport(packet, &inner, event)?;
    }
    if FOLLOW.load().mode == BY_PAIR {
        in_pair(packet, &inner, event)?;
    } else {
        is_probe(packet, &inner, event)?;
    }
    Some(inner)
}

/// Ports, flags, and an ICMP message's type.
#[inline(always)]
fn read_transport(packet: &impl Packet, inner: &Ipv4, event: &mut TraceEvent) -> Option<()> {
    if inner.protocol == PROTOCOL_ICMP {
        let icmp: [u8; 8] = packet.load(inner.payload)?;
        event.icmp_type = icmp[0];
        event.icmp_code = icmp[1];
        if is_error(event.icmp_type) {
            event.flags |= QUOTED;
            event.told_mtu = u16::from_be_bytes([icmp[6], icmp[7]]);
        }
    } else if inner.protocol == PROTOCOL_TCP || inner.protocol == PROTOCOL_UDP {
        let ports: [u8; 4] = packet.load(inner.payload)?;
        event.source_port = u16::from_be_bytes([ports[0], ports[1]]);
        event.destination_port = u16::from_be_bytes([ports[2], ports[3]]);
        if inner.protocol == PROTOCOL_TCP {
            event.tcp_flags = packet.load(inner.payload + 13)?;
        }
    }
    Some(())
}

#[inline(always)]
fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

#[inline(always)]
fn in_pair(packet: &impl Packet, inner: &Ipv4, event: &TraceEvent) -> Option<()> {
    if is_pair(inner) {
        return Some(());
    }
    if event.flags & QUOTED == 0 {
        return None;
    }
    let quoted = quoted(packet, inner.payload + ICMP_HEADER)?;
    if is_pair(&quoted) { Some(()) } else { None }
}

#[inline(always)]
fn is_pair(header: &Ipv4) -> bool {
    let follow = FOLLOW.load();
    (same(header.source, follow.source) && same(header.destination, follow.target))
        || (same(header.source, follow.target) && same(header.destination, follow.source))
}

#[inline(always)]
fn same(one: [u8; 4], other: [u8; 4]) -> bool {
    u32::from_ne_bytes(one) == u32::from_ne_bytes(other)
}

/// The packet that an ICMP error quotes, behind at most one IPIP header.
#[inline(always)]
fn quoted(packet: &impl Packet, offset: u32) -> Option<Ipv4> {
    let header = ipv4(packet, offset)?;
    if header.protocol == PROTOCOL_IPIP { ipv4(packet, header.payload) } else { Some(header) }
}

#[inline(always)]
fn is_probe(packet: &impl Packet, inner: &Ipv4, event: &mut TraceEvent) -> Option<()> {
    if !inner.first_fragment {
        return None;
    }
    if event.flags & QUOTED != 0 {
        let quoted = quoted(packet, inner.payload + ICMP_HEADER)?;
        return match quoted.protocol {
            PROTOCOL_ICMP => has_cookie(packet, quoted.payload + ICMP_HEADER, event),
            PROTOCOL_UDP if is_of_port(PROTOCOL_UDP) => {
                has_cookie(packet, quoted.payload + UDP_HEADER, event)
            }
            PROTOCOL_TCP if is_of_port(PROTOCOL_TCP) => {
                let sequence: [u8; 4] = packet.load(quoted.payload + 4)?;
                has_sequence(u32::from_be_bytes(sequence), event)
            }
            _ => None,
        };
    }
    match inner.protocol {
        PROTOCOL_ICMP if matches!(event.icmp_type, ECHO_REQUEST | ECHO_REPLY) => {
            has_cookie(packet, inner.payload + ICMP_HEADER, event)
        }
        PROTOCOL_TCP if is_of_port(PROTOCOL_TCP) => is_handshake(packet, inner, event),
        PROTOCOL_UDP if is_of_port(PROTOCOL_UDP) => is_datagram(packet, inner, event),
        _ => None,
    }
}

#[inline(always)]
fn is_of_port(protocol: u8) -> bool {
    FOLLOW.load().protocol == protocol
}

/// A SYN with a probe's initial sequence number, or what acknowledges it.
#[inline(always)]
fn is_handshake(packet: &impl Packet, inner: &Ipv4, event: &mut TraceEvent) -> Option<()> {
    let port = FOLLOW.load().port;
    let flags = event.tcp_flags & (FIN | SYN | RST | ACK);
    let number: [u8; 4] = if flags == SYN && event.destination_port == port {
        packet.load(inner.payload + 4)?
    } else if flags & ACK != 0 && flags & (SYN | RST) != 0 && event.source_port == port {
        packet.load(inner.payload + 8)?
    } else {
        return None;
    };
    let number = u32::from_be_bytes(number);
    if (number & 1 == 0) != (flags == SYN) {
        return None;
    }
    has_sequence(number, event)
}

#[inline(always)]
fn has_sequence(number: u32, event: &mut TraceEvent) -> Option<()> {
    let (flow, number) = read_sequence(FOLLOW.load().cookie, number)?;
    event.flow = flow;
    event.sequence = number;
    Some(())
}

/// A datagram with the cookie, or one from the target's port to a port that a probe was sent from. The reader knows
/// which probe that was.
#[inline(always)]
fn is_datagram(packet: &impl Packet, inner: &Ipv4, event: &mut TraceEvent) -> Option<()> {
    let follow = FOLLOW.load();
    if event.destination_port == follow.port {
        return has_cookie(packet, inner.payload + UDP_HEADER, event);
    }
    if event.source_port != follow.port || !same(inner.source, follow.target) {
        return None;
    }
    let word = PROBE_PORTS.get(u32::from(event.destination_port) / u64::BITS)?;
    if word >> (u32::from(event.destination_port) % u64::BITS) & 1 == 0 { None } else { Some(()) }
}

#[inline(always)]
fn has_cookie(packet: &impl Packet, payload: u32, event: &mut TraceEvent) -> Option<()> {
    let found: [u64; 2] = packet.load(payload)?;
    let cookie = FOLLOW.load().cookie;
    let low = u64::from_ne_bytes([
        cookie[0], cookie[1], cookie[2], cookie[3], cookie[4], cookie[5], cookie[6], cookie[7],
    ]);
    let high = u64::from_ne_bytes([
        cookie[8], cookie[9], cookie[10], cookie[11], cookie[12], cookie[13], cookie[14], cookie[15],
    ]);
    if found[0] != low || found[1] != high {
        return None;
    }
    let number: [u8; 3] = packet.load(payload + COOKIE as u32)?;
    event.flow = number[0];
    event.sequence = u16::from_be_bytes([number[1], number[2]]);
    Some(())
}

/// What the checksum of a short TCP or UDP packet covers. One that the stack left to the device holds the sum of the
/// pseudo header, uninverted.
#[inline(always)]
pub(crate) fn checksum(packet: &impl Packet, inner: &Ipv4) -> u8 {
    if !inner.whole || inner.length < 8 || inner.length > CHECKSUMMED {
        return CHECKSUM_UNREAD;
    }
    let at = match inner.protocol {
        PROTOCOL_TCP => 16,
        PROTOCOL_UDP => 6,
        _ => return CHECKSUM_UNREAD,
    };
    let Some(field) = packet.load::<[u8; 2]>(inner.payload + at) else { return CHECKSUM_UNREAD };
    let field = u16::from_be_bytes(field);
    // RFC 768: no checksum was made.
    if field == 0 && inner.protocol == PROTOCOL_UDP {
        return CHECKSUM_UNREAD;
    }
    let pseudo = words(inner.source) + words(inner.destination) + u32::from(inner.protocol) + inner.length;
    let mut sum = pseudo;
    for word in 0..CHECKSUMMED / 2 {
        let offset = word * 2;
        if offset + 1 < inner.length {
            let Some(pair) = packet.load::<[u8; 2]>(inner.payload + offset) else { return CHECKSUM_UNREAD };
            sum += u32::from(u16::from_be_bytes(pair));
        } else if offset < inner.length {
            let Some(last) = packet.load::<u8>(inner.payload + offset) else { return CHECKSUM_UNREAD };
            sum += u32::from(last) << 8;
        }
    }
    if folded(sum) == 0xffff {
        CHECKSUM_GOOD
    } else if folded(pseudo) == u32::from(field) {
        CHECKSUM_UNFINISHED
    } else {
        CHECKSUM_BAD
    }
}

#[inline(always)]
fn words(address: [u8; 4]) -> u32 {
    u32::from(u16::from_be_bytes([address[0], address[1]]))
        + u32::from(u16::from_be_bytes([address[2], address[3]]))
}

#[inline(always)]
fn folded(sum: u32) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}
