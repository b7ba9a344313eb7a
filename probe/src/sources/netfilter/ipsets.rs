//! The kernel's ipsets, by netlink (`linux/netfilter/ipset/ip_set.h`): which there are, and what they hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    path::Path,
};

use anyhow::{anyhow, ensure};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::super::raw_netlink::{DUMP, RawNetlink, attribute, attributes, put_attribute, text};
use crate::sample::{Fact, Field, KeyPart, Member, RuleSetMembers};

/// `NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_LIST`.
const LIST: u16 = 6 << 8 | 7;
/// `struct nfgenmsg`: IPv4, version 0.
const GENERIC_HEADER: [u8; 4] = [2, 0, 0, 0];
/// The protocol that tells a set's index; every supported kernel speaks it.
const PROTOCOL: u8 = 7;
const ATTRIBUTE_PROTOCOL: u16 = 1;
const ATTRIBUTE_SET_NAME: u16 = 2;
const ATTRIBUTE_TYPE_NAME: u16 = 3;
const ATTRIBUTE_FLAGS: u16 = 6;
const ATTRIBUTE_DATA: u16 = 7;
const ATTRIBUTE_ENTRIES: u16 = 8;
const ATTRIBUTE_INDEX: u16 = 11;
/// `IPSET_FLAG_LIST_HEADER`: without the members.
const HEADERS_ONLY: u32 = 4;
const ENTRY_ADDRESS: u16 = 1;
const ENTRY_PREFIX_LENGTH: u16 = 3;
const ENTRY_PORT: u16 = 4;
const ENTRY_PROTOCOL: u16 = 7;
const ENTRY_FLAGS: u16 = 8;
const ENTRY_SECOND_ADDRESS: u16 = 20;
const ENTRY_SECOND_PREFIX_LENGTH: u16 = 21;
const ADDRESS_IPV4: u16 = 1;
/// `IPSET_FLAG_NOMATCH`.
const NO_MATCH: u32 = 4;
/// Members of all sets together.
const MOST_MEMBERS: usize = 300_000;

/// A set by what rules need to ask it.
#[derive(Clone, Debug)]
pub struct IpsetHeader {
    pub name: String,
    dimensions: Vec<Dimension>,
}

/// One part of a set's key. A port's is two fields: the protocol belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Address,
    Port,
    PortAlone,
}

impl IpsetHeader {
    /// From the type's name, such as `hash:net,port`; `None` for types that are not evaluated.
    fn new(name: String, kind: &str) -> Option<Self> {
        let (method, dimensions) = kind.split_once(':')?;
        let dimension = |part| match (method, part) {
            ("hash" | "bitmap", "ip" | "net") => Some(Dimension::Address),
            ("hash", "port") => Some(Dimension::Port),
            ("bitmap", "port") => Some(Dimension::PortAlone),
            _ => None,
        };
        Some(Self { name, dimensions: dimensions.split(',').map(dimension).collect::<Option<_>>()? })
    }

    /// The fields of a packet that a rule asks for, given which of the dimensions it takes from the source.
    pub fn key(&self, asked: usize, is_source: impl Fn(usize) -> bool) -> Option<Vec<Field>> {
        if asked != self.dimensions.len() {
            return None;
        }
        let mut key = Vec::new();
        for (number, dimension) in self.dimensions.iter().enumerate() {
            let (address, port) = if is_source(number) {
                (Field::SourceAddress, Field::SourcePort)
            } else {
                (Field::DestinationAddress, Field::DestinationPort)
            };
            match dimension {
                Dimension::Address => key.push(address),
                Dimension::Port => key.extend([Field::Protocol, port]),
                Dimension::PortAlone => key.push(port),
            }
        }
        Some(key)
    }

    /// One member, as the entry of a listing tells it.
    fn member(&self, entry: &[u8]) -> Option<Member> {
        let mut addresses =
            [(ENTRY_ADDRESS, ENTRY_PREFIX_LENGTH), (ENTRY_SECOND_ADDRESS, ENTRY_SECOND_PREFIX_LENGTH)]
                .into_iter();
        let mut key = Vec::new();
        for dimension in &self.dimensions {
            match dimension {
                Dimension::Address => {
                    let (address, length) = addresses.next()?;
                    key.push(network(entry, address, length)?);
                }
                Dimension::Port => {
                    let protocol = u32::from(*attribute(entry, ENTRY_PROTOCOL)?.first()?);
                    key.extend([KeyPart::Range(protocol, protocol), port(entry)?]);
                }
                Dimension::PortAlone => key.push(port(entry)?),
            }
        }
        let flags = attribute(entry, ENTRY_FLAGS).and_then(|value| value.first_chunk());
        let excluded = flags.is_some_and(|flags| u32::from_be_bytes(*flags) & NO_MATCH != 0);
        Some(Member { key, excluded, verdict: None })
    }
}

fn network(entry: &[u8], address: u16, length: u16) -> Option<KeyPart> {
    let address = attribute(attribute(entry, address)?, ADDRESS_IPV4)?;
    let length = attribute(entry, length).and_then(|value| value.first().copied()).unwrap_or(32);
    Some(KeyPart::network(Ipv4Addr::from(*address.first_chunk::<4>()?), length))
}

fn port(entry: &[u8]) -> Option<KeyPart> {
    let port = u32::from(u16::from_be_bytes(*attribute(entry, ENTRY_PORT)?.first_chunk()?));
    Some(KeyPart::Range(port, port))
}

/// The ipsets of this network namespace.
pub struct Ipsets {
    netlink: Option<RawNetlink>,
    headers: BTreeMap<u16, IpsetHeader>,
}

impl Ipsets {
    /// No ipsets at all, as on a kernel without them.
    pub fn none() -> Self {
        Self { netlink: None, headers: BTreeMap::new() }
    }

    /// Rules that name a set which is not to be read are not understood, so a failure here needs no word.
    pub fn open(root: &Path) -> Self {
        let modular = root.join("proc/modules").exists();
        if modular && !root.join("sys/module/ip_set").exists() {
            return Self::none();
        }
        let Ok(netlink) = RawNetlink::open(NETLINK_NETFILTER) else { return Self::none() };
        let headers = headers(&netlink).unwrap_or_default();
        Self { netlink: Some(netlink), headers }
    }

    pub fn header(&self, index: u16) -> Option<&IpsetHeader> {
        self.headers.get(&index)
    }

    /// What the named sets hold.
    pub fn members(&self, names: BTreeSet<&str>) -> Vec<RuleSetMembers> {
        let mut left = MOST_MEMBERS;
        let sets = names.into_iter().map(|name| RuleSetMembers {
            name: name.to_owned(),
            members: Fact::from_result(self.list(name, &mut left)),
        });
        sets.collect()
    }

    fn list(&self, name: &str, left: &mut usize) -> anyhow::Result<Vec<Member>> {
        let header = self.headers.values().find(|header| header.name == name);
        let (Some(netlink), Some(header)) = (&self.netlink, header) else {
            return Err(anyhow!("this node has no set {name}"));
        };
        let mut request = request(PROTOCOL)?;
        put_attribute(&mut request, ATTRIBUTE_SET_NAME, format!("{name}\0").as_bytes())?;
        let mut members = Vec::new();
        for answer in netlink.request(LIST, DUMP, &request)? {
            let payload = answer.payload.get(GENERIC_HEADER.len()..).unwrap_or_default();
            let entries = attribute(payload, ATTRIBUTE_ENTRIES).unwrap_or_default();
            for (_, entry) in attributes(entries).filter(|(kind, _)| *kind == ATTRIBUTE_DATA) {
                ensure!(*left > 0, "the sets have more than {MOST_MEMBERS} members together");
                *left -= 1;
                let member = header.member(entry);
                members.push(member.ok_or_else(|| anyhow!("a member of {name} is not understood"))?);
            }
        }
        Ok(members)
    }
}

fn request(protocol: u8) -> anyhow::Result<Vec<u8>> {
    let mut request = GENERIC_HEADER.to_vec();
    put_attribute(&mut request, ATTRIBUTE_PROTOCOL, &[protocol])?;
    Ok(request)
}

fn headers(netlink: &RawNetlink) -> anyhow::Result<BTreeMap<u16, IpsetHeader>> {
    let mut request = request(PROTOCOL)?;
    put_attribute(&mut request, ATTRIBUTE_FLAGS, &HEADERS_ONLY.to_be_bytes())?;
    let answers = match netlink.request(LIST, DUMP, &request) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        answers => answers?,
    };
    let payloads = answers.iter().filter_map(|answer| answer.payload.get(GENERIC_HEADER.len()..));
    Ok(payloads.filter_map(header).collect())
}

fn header(bytes: &[u8]) -> Option<(u16, IpsetHeader)> {
    let index = u16::from_be_bytes(*attribute(bytes, ATTRIBUTE_INDEX)?.first_chunk()?);
    let name = text(attribute(bytes, ATTRIBUTE_SET_NAME)?);
    Some((index, IpsetHeader::new(name, &text(attribute(bytes, ATTRIBUTE_TYPE_NAME)?))?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_port_is_asked_for_with_its_protocol() {
        let set = IpsetHeader::new("x".to_owned(), "hash:net,port").unwrap();
        let key = vec![Field::SourceAddress, Field::Protocol, Field::DestinationPort];
        assert_eq!(set.key(2, |dimension| dimension == 0), Some(key));
        assert_eq!(set.key(1, |_| true), None);
        assert!(IpsetHeader::new("x".to_owned(), "list:set").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            header(&bytes);
            IpsetHeader::new("x".to_owned(), "hash:net,port,net").unwrap().member(&bytes);
        }
    }
}
