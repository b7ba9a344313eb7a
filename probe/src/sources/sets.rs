//! Felix' sets of pools and hosts, read from the kernel's ipsets by netlink (`linux/netfilter/ipset/ip_set.h`).

use std::{io, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, anyhow};
use ipnet::Ipv4Net;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{
    netfilter,
    raw_netlink::{DUMP, RawNetlink, attribute, attributes, put_attribute},
};
use crate::sample::{Fact, FelixSets};

/// Felix' names for the set of all pools: until and since the releases that also know other networks.
pub const POOLS: [&str; 2] = ["cali40all-ipam-pools", "cali40network-ip-pools"];
pub const MASQUERADE_POOLS: &str = "cali40masq-ipam-pools";
pub const HOSTS: &str = "cali40all-hosts-net";

/// `NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_LIST`.
const LIST: u16 = 6 << 8 | 7;
/// `struct nfgenmsg`: IPv4, version 0.
const GENERIC_HEADER: [u8; 4] = [2, 0, 0, 0];
/// The oldest protocol that every supported kernel speaks.
const PROTOCOL: u8 = 6;
const ATTRIBUTE_PROTOCOL: u16 = 1;
const ATTRIBUTE_SET_NAME: u16 = 2;
const ATTRIBUTE_DATA: u16 = 7;
const ATTRIBUTE_ENTRIES: u16 = 8;
const ENTRY_ADDRESS: u16 = 1;
const ENTRY_PREFIX_LENGTH: u16 = 3;
const ADDRESS_IPV4: u16 = 1;

/// The table that Felix keeps in its nftables mode, with sets of the same names.
const NFT_TABLE: &str = "calico";

/// Reads the three sets.
pub fn read(root: &Path) -> FelixSets {
    let opened = open(root);
    let set = |name: &str| {
        let ipset = match &opened {
            Ok(netlink) => Fact::from_result(members(netlink, name)),
            Err(error) => Fact::Absent(format!("{error:#}")),
        };
        // The reason why there is no ipset holds for every node but those in nftables mode.
        ipset.or_else(|| netfilter::networks(root, NFT_TABLE, name).ok())
    };
    let pools = POOLS
        .map(set)
        .into_iter()
        .reduce(|first, second| if first.known().is_some() { first } else { second });
    FelixSets { pools: pools.unwrap_or_default(), masquerade_pools: set(MASQUERADE_POOLS), hosts: set(HOSTS) }
}

/// Asking a kernel for ipsets would load the module where it is not there.
fn open(root: &Path) -> anyhow::Result<RawNetlink> {
    let modular = root.join("proc/modules").exists();
    if modular && !root.join("sys/module/ip_set").exists() {
        return Err(anyhow!("the kernel has no ipsets in use (module ip_set is not loaded)"));
    }
    RawNetlink::open(NETLINK_NETFILTER)
}

fn members(netlink: &RawNetlink, name: &str) -> anyhow::Result<Vec<Ipv4Net>> {
    let mut request = GENERIC_HEADER.to_vec();
    put_attribute(&mut request, ATTRIBUTE_PROTOCOL, &[PROTOCOL])?;
    put_attribute(&mut request, ATTRIBUTE_SET_NAME, format!("{name}\0").as_bytes())?;
    let answers = netlink.request(LIST, DUMP, &request).map_err(|error| explain(&error, name))?;
    let entries = answers
        .iter()
        .filter_map(|answer| attribute(answer.payload.get(GENERIC_HEADER.len()..)?, ATTRIBUTE_ENTRIES));
    Ok(entries
        .flat_map(attributes)
        .filter(|(kind, _)| *kind == ATTRIBUTE_DATA)
        .filter_map(|(_, entry)| member(entry))
        .collect())
}

fn explain(error: &io::Error, name: &str) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => anyhow!("this node has no set {name}"),
        Some(libc::EPERM) => anyhow!("not permitted to read ipsets (CAP_NET_ADMIN)"),
        _ => anyhow!("cannot read the set {name}: {error}"),
    }
}

/// One element of a `hash:net` or `hash:ip` set.
fn member(entry: &[u8]) -> Option<Ipv4Net> {
    let address = attribute(attribute(entry, ENTRY_ADDRESS)?, ADDRESS_IPV4)?;
    let address = Ipv4Addr::from(*address.first_chunk::<4>()?);
    let length = attribute(entry, ENTRY_PREFIX_LENGTH).and_then(|value| value.first().copied()).unwrap_or(32);
    Ipv4Net::new(address, length).ok().context("a prefix length beyond 32").ok()
}
