//! Connections to which nothing was answered yet, as connection tracking knows them
//! (`linux/netfilter/nfnetlink_conntrack.h`). An entry is there only once its packet has passed this node's rules.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{
    files::read_text,
    raw_netlink::{RawNetlink, attribute, put_attribute},
};
use crate::observation::{Opening, Unanswered};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`; what comes back is `IPCTNL_MSG_CT_NEW`.
const GET: u16 = 1 << 8 | 1;
/// `struct nfgenmsg`: IPv4, version 0.
const GENERIC_HEADER: [u8; 4] = [2, 0, 0, 0];
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_STATE: u16 = 4;
const TIMEOUT: u16 = 7;
const STATUS_MASK: u16 = 26;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const ICMP_IDENTIFIER: u16 = 4;
const ICMP_TYPE: u16 = 5;
const STATE_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
/// `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 2;
/// `TCP_CONNTRACK_SYN_SENT`.
const SYN_SENT: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ICMP: u8 = 1;
const TCP: u8 = 6;
/// Of more only the first are looked at.
const MOST: usize = 10_000;

/// How long an entry outlives its last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lifetimes {
    syn_sent: Duration,
    icmp: Duration,
}

/// TCP connections whose SYN, and echo requests that nothing has come back for, of the network namespace of the calling
/// thread. Needs `CAP_NET_ADMIN`. Takes a moment where there are many: hundreds of thousands of entries are gone through.
pub fn unanswered(root: &Path) -> anyhow::Result<Vec<Unanswered>> {
    let lifetimes = lifetimes(root)?;
    let mut request = GENERIC_HEADER.to_vec();
    // Kernels before 5.18 know no such filter, and send all.
    put_attribute(&mut request, STATUS, &0u32.to_be_bytes())?;
    put_attribute(&mut request, STATUS_MASK, &SEEN_REPLY.to_be_bytes())?;
    let mut found = Vec::new();
    RawNetlink::open(NETLINK_NETFILTER)?
        .dump(GET, &request, |message| {
            if found.len() < MOST {
                let attributes = message.payload.get(GENERIC_HEADER.len()..).unwrap_or_default();
                found.extend(read_entry(attributes, lifetimes));
            }
        })
        .context("cannot read the connections (CAP_NET_ADMIN)")?;
    Ok(found)
}

fn lifetimes(root: &Path) -> anyhow::Result<Lifetimes> {
    let seconds = |name: &str| -> anyhow::Result<Duration> {
        let path = root.join("proc/sys/net/netfilter").join(name);
        let text = read_text(&path).context("connections are not tracked")?;
        Ok(Duration::from_secs(
            text.trim().parse().with_context(|| format!("{} is no number", path.display()))?,
        ))
    };
    Ok(Lifetimes {
        syn_sent: seconds("nf_conntrack_tcp_timeout_syn_sent")?,
        icmp: seconds("nf_conntrack_icmp_timeout")?,
    })
}

fn read_entry(attributes: &[u8], lifetimes: Lifetimes) -> Option<Unanswered> {
    if word(attributes, STATUS)? & SEEN_REPLY != 0 {
        return None;
    }
    let (original, reply) = (attribute(attributes, TUPLE_ORIGINAL)?, attribute(attributes, TUPLE_REPLY)?);
    let protocol = attribute(original, TUPLE_PROTOCOL)?;
    let (opening, lifetime) = match byte(protocol, PROTOCOL_NUMBER)? {
        TCP => {
            let state = attribute(attribute(attributes, PROTOCOL_STATE)?, STATE_TCP)?;
            (byte(state, TCP_STATE)? == SYN_SENT).then_some(())?;
            let ports = (short(protocol, SOURCE_PORT)?, short(protocol, DESTINATION_PORT)?);
            (Opening::Tcp { ports }, lifetimes.syn_sent)
        }
        ICMP => {
            (byte(protocol, ICMP_TYPE)? == ECHO_REQUEST).then_some(())?;
            (Opening::Echo { identifier: short(protocol, ICMP_IDENTIFIER)? }, lifetimes.icmp)
        }
        _ => return None,
    };
    // The answer's addresses are those that the packet left with, whatever NAT made of it.
    let left_with = attribute(reply, TUPLE_ADDRESSES)?;
    let remaining = Duration::from_secs(u64::from(word(attributes, TIMEOUT)?));
    Some(Unanswered {
        sender: address(attribute(original, TUPLE_ADDRESSES)?, SOURCE)?,
        source: address(left_with, DESTINATION)?,
        target: address(left_with, SOURCE)?,
        opening,
        last_sent: lifetime.saturating_sub(remaining),
    })
}

fn address(attributes: &[u8], kind: u16) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*attribute(attributes, kind)?.first_chunk::<4>()?))
}

fn word(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*attribute(attributes, kind)?.first_chunk()?))
}

fn short(attributes: &[u8], kind: u16) -> Option<u16> {
    Some(u16::from_be_bytes(*attribute(attributes, kind)?.first_chunk()?))
}

fn byte(attributes: &[u8], kind: u16) -> Option<u8> {
    attribute(attributes, kind)?.first().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIMES: Lifetimes =
        Lifetimes { syn_sent: Duration::from_mins(2), icmp: Duration::from_secs(30) };
    const POD: [u8; 4] = [10, 200, 55, 237];
    const SERVICE: [u8; 4] = [10, 96, 187, 1];
    const SERVER: [u8; 4] = [10, 200, 153, 70];

    fn nested(kind: u16, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut inner = Vec::new();
        for (kind, value) in parts {
            put_attribute(&mut inner, *kind, value).unwrap();
        }
        let mut outer = Vec::new();
        put_attribute(&mut outer, 0x8000 | kind, &inner).unwrap();
        outer
    }

    fn tuple(kind: u16, source: [u8; 4], destination: [u8; 4], protocol: &[(u16, &[u8])]) -> Vec<u8> {
        let mut parts = nested(TUPLE_ADDRESSES, &[(SOURCE, &source), (DESTINATION, &destination)]);
        parts.extend(nested(TUPLE_PROTOCOL, protocol));
        let mut outer = Vec::new();
        put_attribute(&mut outer, 0x8000 | kind, &parts).unwrap();
        outer
    }

    fn connection(status: u32, state: u8) -> Vec<u8> {
        let protocol: [(u16, &[u8]); 3] =
            [(PROTOCOL_NUMBER, &[TCP]), (SOURCE_PORT, &[0x9c, 0x40]), (DESTINATION_PORT, &[0, 80])];
        let mut entry = tuple(TUPLE_ORIGINAL, POD, SERVICE, &protocol);
        entry.extend(tuple(TUPLE_REPLY, SERVER, POD, &protocol));
        put_attribute(&mut entry, STATUS, &status.to_be_bytes()).unwrap();
        let state = nested(STATE_TCP, &[(TCP_STATE, &[state])]);
        put_attribute(&mut entry, PROTOCOL_STATE, &state).unwrap();
        put_attribute(&mut entry, TIMEOUT, &118u32.to_be_bytes()).unwrap();
        entry
    }

    #[test]
    fn a_syn_to_a_service_is_one_to_the_pod_behind_it() {
        let found = read_entry(&connection(8, SYN_SENT), LIFETIMES).unwrap();
        assert_eq!((found.sender, found.source, found.target), (POD.into(), POD.into(), SERVER.into()));
        assert_eq!(found.opening, Opening::Tcp { ports: (40_000, 80) });
        assert_eq!(found.last_sent, Duration::from_secs(2));
    }

    #[test]
    fn what_was_answered_or_is_under_way_is_none() {
        assert_eq!(read_entry(&connection(8 | SEEN_REPLY, SYN_SENT), LIFETIMES), None);
        assert_eq!(read_entry(&connection(8, 3), LIFETIMES), None);
    }

    #[test]
    fn an_echo_request_is_known_by_its_identifier_and_udp_is_none() {
        let entry = |number: u8, kind: u8| {
            let protocol: [(u16, &[u8]); 3] =
                [(PROTOCOL_NUMBER, &[number]), (ICMP_IDENTIFIER, &[1, 2]), (ICMP_TYPE, &[kind])];
            let mut entry = tuple(TUPLE_ORIGINAL, POD, SERVER, &protocol);
            entry.extend(tuple(TUPLE_REPLY, SERVER, POD, &protocol));
            put_attribute(&mut entry, STATUS, &8u32.to_be_bytes()).unwrap();
            put_attribute(&mut entry, TIMEOUT, &29u32.to_be_bytes()).unwrap();
            read_entry(&entry, LIFETIMES).map(|found| found.opening)
        };
        assert_eq!(entry(ICMP, ECHO_REQUEST), Some(Opening::Echo { identifier: 258 }));
        assert_eq!(entry(ICMP, 13), None);
        assert_eq!(entry(17, 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_entry(&bytes, LIFETIMES);
        }
    }
}
