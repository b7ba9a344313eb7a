//! How a probe is known wherever it is seen. NAT rewrites addresses, ports and ICMP identifiers (Calico's own
//! `MASQUERADE --random-fully` on `tunl0` does), so the mark is in the payload, and in the initial sequence number
//! of TCP, which has none.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::observation::Traffic;

/// 128 random bits, the same for all probes of one diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub [u8; 16]);

impl Cookie {
    pub fn random() -> Self {
        Self(rand::random())
    }
}

/// Which sender a probe is from, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeNumber {
    pub flow: u8,
    pub sequence: u16,
}

/// Bytes of the mark: cookie, flow, sequence in network byte order.
pub const MARK_LENGTH: usize = 19;

/// The mark as it stands at the start of a probe's payload.
pub fn mark(cookie: Cookie, number: ProbeNumber) -> [u8; MARK_LENGTH] {
    let mut bytes = [0; MARK_LENGTH];
    bytes[..16].copy_from_slice(&cookie.0);
    bytes[16] = number.flow;
    bytes[17..].copy_from_slice(&number.sequence.to_be_bytes());
    bytes
}

/// The number of the probe whose payload this is, if it carries the cookie.
pub fn read_mark(cookie: Cookie, payload: &[u8]) -> Option<ProbeNumber> {
    let rest = payload.strip_prefix(&cookie.0)?;
    let (&flow, rest) = rest.split_first()?;
    let sequence = u16::from_be_bytes(*rest.first_chunk()?);
    Some(ProbeNumber { flow, sequence })
}

/// Which packets are followed.
#[derive(Clone, Debug)]
pub enum Follow {
    /// The probes of a diagnosis, what answers them, and ICMP errors that quote them.
    Probes(Marks),
    /// Packets between two addresses, in either direction, behind at most one IPIP header.
    Pair { source: Ipv4Addr, target: Ipv4Addr },
}

/// What the probes of one diagnosis have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    pub cookie: Cookie,
    pub target: Ipv4Addr,
    /// What is sent beside echo requests.
    pub traffic: Traffic,
    /// The ports that datagrams are sent from. Servers answer as they like, so that the port tells which probe an
    /// answer is for.
    pub sent_from: BTreeMap<u16, ProbeNumber>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_short_or_foreign_payload_is_not() {
        let cookie = Cookie(*b"0123456789abcdef");
        let number = ProbeNumber { flow: 1, sequence: 513 };
        let bytes = mark(cookie, number);
        assert_eq!(read_mark(cookie, &bytes), Some(number));
        assert_eq!(read_mark(cookie, &bytes[..MARK_LENGTH - 1]), None);
        assert_eq!(read_mark(Cookie([0; 16]), &bytes), None);
    }
}
