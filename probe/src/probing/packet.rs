//! Recognises followed packets, from their first IPv4 header on: what the kernel programs do, for packet sockets.

use std::net::Ipv4Addr;

use probe_common::trace::{CHECKSUMMED, read_sequence};

use super::marks::{Cookie, Follow, Marks, ProbeNumber, read_mark};
use crate::observation::{Checksum, PacketId, PacketKind, Traffic};

const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_IPIP: u8 = 4;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
pub const ICMP_HEADER: usize = 8;
const UDP_HEADER: usize = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What headers tell of a followed packet, whoever read them.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// IPv4 protocol number.
    pub protocol: u8,
    /// Type and code of an ICMP message.
    pub icmp: (u8, u8),
    /// Whether it is an ICMP error that quotes a followed packet.
    pub quotes: bool,
    /// What an ICMP error tells of the MTU, RFC 1191.
    pub told_mtu: u16,
    pub tcp_flags: u8,
    /// Source and destination of TCP and UDP.
    pub ports: (u16, u16),
    /// As the mark tells it.
    pub number: ProbeNumber,
}

impl Headers {
    /// What the packet is; `None` for an answer to no probe.
    pub fn identify(&self, follow: &Follow) -> Option<PacketId> {
        let marks = match follow {
            Follow::Probes(marks) => Some(marks),
            Follow::Pair { .. } => None,
        };
        let (icmp_type, code) = self.icmp;
        let kind = match self.protocol {
            PROTOCOL_ICMP if self.quotes => {
                let told_mtu = (self.icmp == FRAGMENTATION_NEEDED).then_some(self.told_mtu);
                PacketKind::IcmpError { icmp_type, code, told_mtu }
            }
            PROTOCOL_ICMP if icmp_type == ECHO_REQUEST => PacketKind::EchoRequest,
            PROTOCOL_ICMP if icmp_type == ECHO_REPLY => PacketKind::EchoReply,
            PROTOCOL_TCP => match self.tcp_flags & (FIN | SYN | RST | ACK) {
                SYN => PacketKind::TcpSyn,
                flags if flags & RST != 0 => PacketKind::TcpReset,
                flags if flags & SYN != 0 => PacketKind::TcpAccepted,
                _ => PacketKind::Other,
            },
            PROTOCOL_UDP => match marks.map(|marks| marks.traffic) {
                Some(Traffic::Udp(port)) if self.ports.1 == port => PacketKind::Datagram,
                Some(Traffic::Udp(_)) => PacketKind::DatagramAnswer,
                _ => PacketKind::Other,
            },
            _ => PacketKind::Other,
        };
        let number = match (kind, marks) {
            (PacketKind::DatagramAnswer, Some(marks)) => *marks.sent_from.get(&self.ports.1)?,
            _ => self.number,
        };
        let has_ports = matches!(self.protocol, PROTOCOL_TCP | PROTOCOL_UDP);
        Some(PacketId {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            kind,
            flow: number.flow,
            sequence: number.sequence,
            ports: has_ports.then_some(self.ports),
        })
    }
}

/// Destination unreachable, fragmentation needed and DF set: RFC 792.
const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);

/// A followed packet as a packet socket has it.
#[derive(Clone, Copy, Debug)]
pub struct Recognised {
    pub packet: PacketId,
    /// Outer source and destination, where it is behind an IPIP header.
    pub outer: Option<(Ipv4Addr, Ipv4Addr)>,
    pub checksum: Option<Checksum>,
    pub unfragmentable: bool,
}

/// A packet that is followed.
pub fn recognise(follow: &Follow, packet: &[u8]) -> Option<Recognised> {
    let (outer, inner) = Ipv4::read_inner(packet)?;
    let mut headers = inner.headers();
    let quoted = headers
        .quotes
        .then(|| inner.payload.get(ICMP_HEADER..).and_then(Ipv4::read_inner))
        .flatten()
        .map(|(_, quoted)| quoted);
    match follow {
        Follow::Probes(marks) => {
            headers.number = match &quoted {
                Some(quoted) => quoted.number(marks, &quoted.headers(), true)?,
                None if headers.quotes => return None,
                None => inner.number(marks, &headers, false)?,
            };
        }
        Follow::Pair { source, target } => {
            let quotes_pair = quoted.is_some_and(|quoted| quoted.is_between(*source, *target));
            if !inner.is_between(*source, *target) && !quotes_pair {
                return None;
            }
        }
    }
    Some(Recognised {
        packet: headers.identify(follow)?,
        outer: outer.map(|outer| (outer.source, outer.destination)),
        checksum: inner.checksum(),
        unfragmentable: inner.unfragmentable,
    })
}

/// The probe that an ICMP error quotes, behind at most one IPIP header.
pub fn read_quoted_echo(cookie: Cookie, quoted: &[u8]) -> Option<ProbeNumber> {
    let (_, packet) = Ipv4::read_inner(quoted)?;
    if packet.protocol != PROTOCOL_ICMP {
        return None;
    }
    read_mark(cookie, packet.payload.get(ICMP_HEADER..)?)
}

/// An IPv4 packet.
pub struct Ipv4<'a> {
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    later_fragment: bool,
    fragment: bool,
    unfragmentable: bool,
    /// Bytes of the payload, as the header tells; fewer may be here.
    length: usize,
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; 20] = packet.first_chunk()?;
        let header_length = usize::from(fixed[0] & 0x0f) * 4;
        if fixed[0] >> 4 != 4 || header_length < fixed.len() {
            return None;
        }
        Some(Self {
            protocol: fixed[9],
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
            later_fragment: fixed[6] & 0x1f != 0 || fixed[7] != 0,
            fragment: fixed[6] & 0x3f != 0 || fixed[7] != 0,
            unfragmentable: fixed[6] & 0x40 != 0,
            length: usize::from(u16::from_be_bytes([fixed[2], fixed[3]])).saturating_sub(header_length),
            payload: packet.get(header_length..)?,
        })
    }

    /// The outer header, where there is an IPIP one, and the inner.
    fn read_inner(packet: &'a [u8]) -> Option<(Option<Self>, Self)> {
        let first = Self::read(packet)?;
        if first.protocol != PROTOCOL_IPIP || first.later_fragment {
            return Some((None, first));
        }
        let inner = Self::read(first.payload)?;
        Some((Some(first), inner))
    }

    fn is_between(&self, source: Ipv4Addr, target: Ipv4Addr) -> bool {
        (self.source == source && self.destination == target)
            || (self.source == target && self.destination == source)
    }

    fn byte(&self, at: usize) -> u8 {
        self.payload.get(at).copied().unwrap_or_default()
    }

    fn short(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn headers(&self) -> Headers {
        let first = !self.later_fragment;
        let icmp =
            if first && self.protocol == PROTOCOL_ICMP { (self.byte(0), self.byte(1)) } else { (0, 0) };
        let tcp = first && self.protocol == PROTOCOL_TCP;
        let quotes = self.protocol == PROTOCOL_ICMP && matches!(icmp.0, 3 | 4 | 5 | 11 | 12);
        Headers {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            icmp,
            quotes,
            told_mtu: if quotes { self.short(6) } else { 0 },
            tcp_flags: if tcp { self.byte(13) } else { 0 },
            ports: if first { (self.short(0), self.short(2)) } else { (0, 0) },
            number: ProbeNumber { flow: 0, sequence: 0 },
        }
    }

    /// The probe that this is, or answers, or that was quoted.
    fn number(&self, marks: &Marks, headers: &Headers, quoted: bool) -> Option<ProbeNumber> {
        if self.later_fragment {
            return None;
        }
        let (source_port, destination_port) = headers.ports;
        match (self.protocol, marks.traffic) {
            (PROTOCOL_ICMP, _) if matches!(headers.icmp.0, ECHO_REQUEST | ECHO_REPLY) => {
                read_mark(marks.cookie, self.payload.get(ICMP_HEADER..)?)
            }
            (PROTOCOL_TCP, Traffic::Tcp(port)) => {
                let flags = headers.tcp_flags & (FIN | SYN | RST | ACK);
                let answers = flags & ACK != 0 && flags & (SYN | RST) != 0 && source_port == port;
                let begins = flags == SYN && destination_port == port;
                let at = if answers && !quoted { 8 } else { 4 };
                let number = u32::from_be_bytes(*self.payload.get(at..)?.first_chunk()?);
                let odd = number & 1 == 1;
                (quoted || (begins && !odd) || (answers && odd)).then_some(())?;
                let (flow, sequence) = read_sequence(marks.cookie.0, number)?;
                Some(ProbeNumber { flow, sequence })
            }
            (PROTOCOL_UDP, Traffic::Udp(port)) if destination_port == port => {
                read_mark(marks.cookie, self.payload.get(UDP_HEADER..)?)
            }
            (PROTOCOL_UDP, Traffic::Udp(port)) if source_port == port && self.source == marks.target => {
                marks.sent_from.get(&destination_port).copied()
            }
            _ => None,
        }
    }

    /// What the checksum of a short TCP or UDP packet covers; RFC 1071.
    fn checksum(&self) -> Option<Checksum> {
        let at = match self.protocol {
            PROTOCOL_TCP => 16,
            PROTOCOL_UDP => 6,
            _ => return None,
        };
        let whole = self.payload.get(..self.length).filter(|whole| {
            !self.fragment && whole.len() >= UDP_HEADER && whole.len() <= CHECKSUMMED as usize
        })?;
        let field = self.short(at);
        if field == 0 && self.protocol == PROTOCOL_UDP {
            return None;
        }
        let length = u16::try_from(whole.len()).ok()?.to_be_bytes();
        let [source, destination] = [self.source.octets(), self.destination.octets()];
        let pseudo = [&source[..], &destination[..], &[0, self.protocol], &length[..]].concat();
        Some(if folded(&[&pseudo[..], whole].concat()) == 0xffff {
            Checksum::Good
        } else if folded(&pseudo) == field {
            Checksum::Unfinished
        } else {
            Checksum::Bad
        })
    }
}

/// The sum of RFC 1071, uninverted, over an even number of bytes or an odd one padded with zero.
fn folded(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default()
}

/// The checksum of RFC 1071.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    !folded(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOKIE: Cookie = Cookie([7; 16]);
    const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn follow(traffic: Traffic) -> Follow {
        let sent_from = [(40_000, ProbeNumber { flow: 1, sequence: 7 })].into();
        Follow::Probes(Marks { cookie: COOKIE, target: TARGET, traffic, sent_from })
    }

    fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend_from_slice(payload);
        packet
    }

    fn tcp(ports: (u16, u16), sequence: u32, acknowledged: u32, flags: u8) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(ports.0.to_be_bytes());
        segment.extend(ports.1.to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment
    }

    fn kind_and_number(follow: &Follow, packet: &[u8]) -> Option<(PacketKind, u8, u16)> {
        let packet = recognise(follow, packet)?.packet;
        Some((packet.kind, packet.flow, packet.sequence))
    }

    #[test]
    fn a_handshake_is_known_by_its_sequence_number_whatever_nat_does_to_its_other_end() {
        let follow = follow(Traffic::Tcp(80));
        let sequence = probe_common::trace::initial_sequence(COOKIE.0, 1, 200);
        let stranger = Ipv4Addr::new(192, 0, 2, 1);
        let syn = ipv4(6, stranger, TARGET, &tcp((1, 80), sequence, 0, SYN));
        assert_eq!(kind_and_number(&follow, &syn), Some((PacketKind::TcpSyn, 1, 200)));
        assert_eq!(
            kind_and_number(&follow, &ipv4(4, SOURCE, TARGET, &syn)),
            Some((PacketKind::TcpSyn, 1, 200))
        );
        for (flags, kind) in [(SYN | ACK, PacketKind::TcpAccepted), (RST | ACK, PacketKind::TcpReset)] {
            let answer = ipv4(6, TARGET, stranger, &tcp((80, 1), 99, sequence + 1, flags));
            assert_eq!(kind_and_number(&follow, &answer), Some((kind, 1, 200)));
        }
        for other in [
            tcp((1, 81), sequence, 0, SYN),
            tcp((1, 80), sequence + 1, 0, SYN),
            tcp((1, 80), sequence ^ 0x8000_0000, 0, SYN),
            tcp((1, 80), sequence, 0, ACK),
        ] {
            assert_eq!(kind_and_number(&follow, &ipv4(6, SOURCE, TARGET, &other)), None);
        }
    }

    #[test]
    fn an_answer_to_a_datagram_is_known_by_the_port_that_it_goes_to() {
        let follow = follow(Traffic::Udp(53));
        let datagram = |from: u16, to: u16| [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 8]].concat();
        let answer = ipv4(17, TARGET, SOURCE, &datagram(53, 40_000));
        assert_eq!(kind_and_number(&follow, &answer), Some((PacketKind::DatagramAnswer, 1, 7)));
        for other in [
            ipv4(17, TARGET, SOURCE, &datagram(53, 40_001)),
            ipv4(17, SOURCE, SOURCE, &datagram(53, 40_000)),
            ipv4(17, SOURCE, TARGET, &datagram(40_000, 53)),
        ] {
            assert_eq!(kind_and_number(&follow, &other), None);
        }
    }

    #[test]
    fn a_refusal_that_quotes_a_probe_tells_its_number_and_the_mtu() {
        let follow = follow(Traffic::Tcp(80));
        let sequence = probe_common::trace::initial_sequence(COOKIE.0, 0, 3);
        let quoted = ipv4(6, SOURCE, TARGET, &tcp((1, 80), sequence, 0, SYN)[..8]);
        let error = [&[3, 4, 0, 0, 0, 0, 0x05, 0x78][..], &quoted].concat();
        let told = PacketKind::IcmpError { icmp_type: 3, code: 4, told_mtu: Some(1400) };
        assert_eq!(kind_and_number(&follow, &ipv4(1, TARGET, SOURCE, &error)), Some((told, 0, 3)));
    }

    #[test]
    fn a_checksum_is_good_or_left_to_the_device_or_bad() {
        let follow = follow(Traffic::Tcp(80));
        let sequence = probe_common::trace::initial_sequence(COOKIE.0, 0, 3);
        let mut packet = ipv4(6, SOURCE, TARGET, &tcp((1, 80), sequence, 0, SYN));
        let pseudo = [&SOURCE.octets()[..], &TARGET.octets(), &[0, 6], &20u16.to_be_bytes()].concat();
        let mut checksum_with = |field: u16| {
            packet[36..38].copy_from_slice(&field.to_be_bytes());
            recognise(&follow, &packet).unwrap().checksum
        };
        assert_eq!(checksum_with(folded(&pseudo)), Some(Checksum::Unfinished));
        assert_eq!(checksum_with(0x1234), Some(Checksum::Bad));
        packet[36..38].copy_from_slice(&[0, 0]);
        let whole = internet_checksum(&[&pseudo[..], &packet[20..]].concat());
        packet[36..38].copy_from_slice(&whole.to_be_bytes());
        assert_eq!(recognise(&follow, &packet).unwrap().checksum, Some(Checksum::Good));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for traffic in [Traffic::Echo, Traffic::Tcp(80), Traffic::Udp(53)] {
                recognise(&follow(traffic), &bytes);
            }
            recognise(&Follow::Pair { source: Ipv4Addr::LOCALHOST, target: Ipv4Addr::UNSPECIFIED }, &bytes);
        }

        #[test]
        fn any_payload_is_read_without_a_panic(protocol in 0u8..20, payload in prop::collection::vec(any::<u8>(), 0..90)) {
            let packet = ipv4(protocol, SOURCE, TARGET, &payload);
            for traffic in [Traffic::Echo, Traffic::Tcp(80), Traffic::Udp(53)] {
                recognise(&follow(traffic), &packet);
            }
            recognise(&Follow::Pair { source: SOURCE, target: TARGET }, &ipv4(4, SOURCE, TARGET, &packet));
        }
    }
}
