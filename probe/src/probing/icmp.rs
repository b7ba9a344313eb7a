//! ICMP echo over IPv4 (RFC 792) as far as probes need it: requests built, answers and errors recognised.

use std::net::Ipv4Addr;

use super::{
    answer::{Answer, Answered},
    marks::{Cookie, ProbeNumber, mark, read_mark},
    packet::{ICMP_HEADER, Ipv4, PROTOCOL_IPIP, internet_checksum, read_quoted_echo},
};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const PROTOCOL_ICMP: u8 = 1;
/// The payload of `ping`, so that a probe is as large as the packet that a person would send.
const PAYLOAD: usize = 56;
const IPV4_HEADER: usize = 20;

/// An echo request from the ICMP header on. `size` is that of the whole IPv4 packet; a mark always fits.
pub fn echo_request(cookie: Cookie, number: ProbeNumber, identifier: u16, size: Option<u16>) -> Vec<u8> {
    let mark = mark(cookie, number);
    let payload = size
        .map_or(PAYLOAD, |size| usize::from(size).saturating_sub(IPV4_HEADER + ICMP_HEADER).max(mark.len()));
    let mut packet = vec![0; ICMP_HEADER + payload];
    packet[0] = ECHO_REQUEST;
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&number.sequence.to_be_bytes());
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
        ECHO_REPLY => Some(Answer { number: read_mark(cookie, payload)?, what: Answered::Reply }),
        icmp_type @ (3 | 4 | 5 | 11 | 12) => {
            let code = header[1];
            let told = u16::from_be_bytes([header[6], header[7]]);
            let told_mtu = (icmp_type == 3 && code == 4).then_some(told);
            let what = Answered::Error { from: outer.source, icmp_type, code, told_mtu };
            Some(Answer { number: read_quoted_echo(cookie, payload)?, what })
        }
        _ => None,
    }
}

/// An ICMP error for an encapsulated packet, whoever sent that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelError {
    /// Where the packet was to go.
    pub peer: Ipv4Addr,
    pub from: Ipv4Addr,
    pub icmp_type: u8,
    pub code: u8,
}

/// Reads what a raw ICMP socket received, from its IPv4 header on. Routers may quote no more than the outer header.
pub fn read_tunnel_error(packet: &[u8]) -> Option<TunnelError> {
    let outer = Ipv4::read(packet).filter(|outer| outer.protocol == PROTOCOL_ICMP)?;
    let (header, payload) = outer.payload.split_at_checked(ICMP_HEADER)?;
    let quoted = Ipv4::read(payload).filter(|quoted| quoted.protocol == PROTOCOL_IPIP)?;
    matches!(header[0], 3 | 11 | 12).then_some(TunnelError {
        peer: quoted.destination,
        from: outer.source,
        icmp_type: header[0],
        code: header[1],
    })
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
        assert_eq!(internet_checksum(&echo_request(COOKIE, NUMBER, 99, None)), 0);
    }

    #[test]
    fn a_request_is_as_large_as_it_was_asked_to_be() {
        assert_eq!(ipv4(1, &echo_request(COOKIE, NUMBER, 99, None)).len(), 84);
        assert_eq!(ipv4(1, &echo_request(COOKIE, NUMBER, 99, Some(1480))).len(), 1480);
    }

    #[test]
    fn a_reply_is_recognised_by_its_cookie_whatever_its_identifier() {
        let mut reply = echo_request(COOKIE, NUMBER, 99, None);
        reply[0] = ECHO_REPLY;
        reply[4] = 0xff;
        let answer = read_answer(COOKIE, &ipv4(1, &reply));
        assert_eq!(answer, Some(Answer { number: NUMBER, what: Answered::Reply }));
        assert_eq!(read_answer(Cookie([8; 16]), &ipv4(1, &reply)), None);
    }

    #[test]
    fn an_error_is_recognised_behind_an_ipip_header() {
        let request = ipv4(1, &echo_request(COOKIE, NUMBER, 99, None));
        for quoted in [request.clone(), ipv4(4, &request)] {
            let mut error = vec![3, 4, 0, 0, 0, 0, 0x05, 0x78];
            error.extend_from_slice(&quoted);
            let from = Ipv4Addr::new(10, 0, 0, 1);
            let what = Answered::Error { from, icmp_type: 3, code: 4, told_mtu: Some(1400) };
            assert_eq!(read_answer(COOKIE, &ipv4(1, &error)), Some(Answer { number: NUMBER, what }));
        }
    }

    #[test]
    fn an_error_for_any_encapsulated_packet_tells_where_that_was_to_go() {
        let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
        error.extend_from_slice(&ipv4(4, &[0; 8]));
        let (from, peer) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let told = TunnelError { peer, from, icmp_type: 3, code: 3 };
        assert_eq!(read_tunnel_error(&ipv4(1, &error)), Some(told));
        error[0] = ECHO_REPLY;
        assert_eq!(read_tunnel_error(&ipv4(1, &error)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_tunnel_error(&bytes);
            read_answer(COOKIE, &bytes);
        }
    }
}
