//! ICMP echo over IPv4 (RFC 792) as far as probes need it: requests built, answers and errors recognised.

use std::net::Ipv4Addr;

use super::cookie::{Cookie, ProbeNumber, mark, read_mark};
use crate::observation::{Follow, PacketId, PacketKind};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_IPIP: u8 = 4;
const ICMP_HEADER: usize = 8;
/// The payload of `ping`, so that a probe is as large as the packet that a person would send.
const PAYLOAD: usize = 56;

/// What came back for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(ProbeNumber),
    /// An ICMP error that quotes the probe, with who sent it.
    Error {
        number: ProbeNumber,
        from: Ipv4Addr,
        icmp_type: u8,
        code: u8,
    },
}

/// An echo request from the ICMP header on.
pub fn echo_request(cookie: Cookie, number: ProbeNumber, identifier: u16) -> Vec<u8> {
    let mut packet = vec![0; ICMP_HEADER + PAYLOAD];
    packet[0] = ECHO_REQUEST;
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&number.sequence.to_be_bytes());
    let mark = mark(cookie, number);
    packet[ICMP_HEADER..ICMP_HEADER + mark.len()].copy_from_slice(&mark);
    let checksum = internet_checksum(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Reads what a raw ICMP socket received, from its IPv4 header on.
pub fn read_answer(cookie: Cookie, packet: &[u8]) -> Option<Answer> {
    let outer = Ipv4::read(packet)?;
    if outer.protocol != PROTOCOL_ICMP {
        return None;
    }
    let (header, payload) = outer.payload.split_at_checked(ICMP_HEADER)?;
    match header[0] {
        ECHO_REPLY => read_mark(cookie, payload).map(Answer::Reply),
        icmp_type @ (3 | 4 | 5 | 11 | 12) => Some(Answer::Error {
            number: read_quoted(cookie, payload)?,
            from: outer.source,
            icmp_type,
            code: header[1],
        }),
        _ => None,
    }
}

/// The probe that an ICMP error quotes, behind at most one IPIP header.
fn read_quoted(cookie: Cookie, quoted: &[u8]) -> Option<ProbeNumber> {
    let (_, packet) = Ipv4::read_inner(quoted)?;
    if packet.protocol != PROTOCOL_ICMP {
        return None;
    }
    read_mark(cookie, packet.payload.get(ICMP_HEADER..)?)
}

/// A packet that is followed, with its outer addresses where it is behind an IPIP header.
pub fn recognise(follow: Follow, packet: &[u8]) -> Option<(PacketId, Option<(Ipv4Addr, Ipv4Addr)>)> {
    let (outer, inner) = Ipv4::read_inner(packet)?;
    let icmp = (inner.protocol == PROTOCOL_ICMP && !inner.later_fragment).then_some(inner.payload);
    let kind = icmp.and_then(|icmp| kind_of(*icmp.first()?, *icmp.get(1)?)).unwrap_or(PacketKind::Other);
    let body = icmp.and_then(|icmp| icmp.get(ICMP_HEADER..)).unwrap_or_default();
    let number = match (follow, kind) {
        (Follow::Cookie(cookie), PacketKind::IcmpError { .. }) => read_quoted(Cookie(cookie), body)?,
        (Follow::Cookie(cookie), _) => read_mark(Cookie(cookie), body)?,
        (Follow::Pair { source, target }, _) => {
            let quoted =
                matches!(kind, PacketKind::IcmpError { .. }).then(|| Ipv4::read_inner(body)).flatten();
            let quotes_pair = quoted.is_some_and(|(_, quoted)| quoted.is_between(source, target));
            if !inner.is_between(source, target) && !quotes_pair {
                return None;
            }
            ProbeNumber { flow: 0, sequence: 0 }
        }
    };
    let packet = PacketId {
        source: inner.source,
        destination: inner.destination,
        protocol: inner.protocol,
        kind,
        flow: number.flow,
        sequence: number.sequence,
    };
    Some((packet, outer.map(|outer| (outer.source, outer.destination))))
}

fn kind_of(icmp_type: u8, code: u8) -> Option<PacketKind> {
    match icmp_type {
        ECHO_REQUEST => Some(PacketKind::EchoRequest),
        ECHO_REPLY => Some(PacketKind::EchoReply),
        3 | 4 | 5 | 11 | 12 => Some(PacketKind::IcmpError { icmp_type, code }),
        _ => None,
    }
}

struct Ipv4<'a> {
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    later_fragment: bool,
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
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
}

/// RFC 1071, over an even number of bytes or an odd one padded with zero.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOKIE: Cookie = Cookie([7; 16]);
    const NUMBER: ProbeNumber = ProbeNumber { flow: 1, sequence: 2 };

    fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn the_checksum_of_a_request_verifies() {
        assert_eq!(internet_checksum(&echo_request(COOKIE, NUMBER, 99)), 0);
    }

    #[test]
    fn a_reply_is_recognised_by_its_cookie_whatever_its_identifier() {
        let mut reply = echo_request(COOKIE, NUMBER, 99);
        reply[0] = ECHO_REPLY;
        reply[4] = 0xff;
        assert_eq!(read_answer(COOKIE, &ipv4(1, &reply)), Some(Answer::Reply(NUMBER)));
        assert_eq!(read_answer(Cookie([8; 16]), &ipv4(1, &reply)), None);
    }

    #[test]
    fn an_error_is_recognised_behind_an_ipip_header() {
        let request = ipv4(1, &echo_request(COOKIE, NUMBER, 99));
        for quoted in [request.clone(), ipv4(4, &request)] {
            let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
            error.extend_from_slice(&quoted);
            let expected =
                Answer::Error { number: NUMBER, from: Ipv4Addr::new(10, 0, 0, 1), icmp_type: 3, code: 1 };
            assert_eq!(read_answer(COOKIE, &ipv4(1, &error)), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_answer(COOKIE, &bytes);
            recognise(Follow::Cookie(COOKIE.0), &bytes);
            recognise(Follow::Pair { source: Ipv4Addr::LOCALHOST, target: Ipv4Addr::UNSPECIFIED }, &bytes);
        }
    }
}
