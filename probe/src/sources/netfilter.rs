//! The base chains of every IPv4 rule set: `nf_tables` by netlink, `ip_tables` by its socket options. Only what
//! is loaded already is asked for; asking for more would load it.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{
    files::read_text,
    raw_netlink::{DUMP, RawNetlink, attribute, text},
};
use crate::sample::{BaseChain, NetfilterHook, RuleSetBackend};

/// Reads the base chains of both backends.
pub fn read(root: &Path) -> anyhow::Result<Vec<BaseChain>> {
    let mut chains = nf_tables(root)?;
    chains.extend(ip_tables(root)?);
    Ok(chains)
}

fn hook(number: u32) -> Option<NetfilterHook> {
    use NetfilterHook::{Forward, Input, Output, Postrouting, Prerouting};
    [Prerouting, Input, Forward, Output, Postrouting].get(usize::try_from(number).ok()?).copied()
}

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = 10 << 8 | 4;
const GENERIC_HEADER: usize = 4;
/// `NFPROTO_INET` and `NFPROTO_IPV4`.
const FAMILIES: [u8; 2] = [1, 2];
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_USE: u16 = 6;
const CHAIN_COUNTERS: u16 = 8;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const COUNTER_PACKETS: u16 = 2;
const POLICY_DROP: u32 = 0;

fn nf_tables(root: &Path) -> anyhow::Result<Vec<BaseChain>> {
    let modular = root.join("proc/modules").exists();
    if modular && !root.join("sys/module/nf_tables").exists() {
        return Ok(Vec::new());
    }
    let netlink = RawNetlink::open(NETLINK_NETFILTER)?;
    let mut chains = Vec::new();
    for family in FAMILIES {
        let answers = match netlink.request(GET_CHAIN, DUMP, &[family, 0, 0, 0]) {
            Ok(answers) => answers,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error).context("cannot read the chains of nf_tables (CAP_NET_ADMIN)"),
        };
        chains.extend(
            answers.iter().filter_map(|answer| nf_tables_chain(answer.payload.get(GENERIC_HEADER..)?)),
        );
    }
    Ok(chains)
}

/// The subsystem is not in this kernel.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT))
}

fn nf_tables_chain(bytes: &[u8]) -> Option<BaseChain> {
    let place = attribute(bytes, CHAIN_HOOK)?;
    let counters = attribute(bytes, CHAIN_COUNTERS);
    Some(BaseChain {
        backend: RuleSetBackend::NfTables,
        table: text(attribute(bytes, CHAIN_TABLE)?),
        chain: text(attribute(bytes, CHAIN_NAME)?),
        hook: hook(big_endian(attribute(place, HOOK_NUMBER)?)?)?,
        priority: big_endian(attribute(place, HOOK_PRIORITY)?)?.cast_signed(),
        policy_drops: attribute(bytes, CHAIN_POLICY).and_then(big_endian) == Some(POLICY_DROP),
        policy_packets: counters
            .and_then(|counters| attribute(counters, COUNTER_PACKETS))
            .and_then(|value| Some(u64::from_be_bytes(*value.first_chunk()?))),
        rules: attribute(bytes, CHAIN_USE).and_then(big_endian).unwrap_or_default(),
    })
}

fn big_endian(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES` (`linux/netfilter_ipv4/ip_tables.h`).
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const TABLE_NAME: usize = 32;
/// `struct ipt_getinfo`.
const INFO: usize = 84;
/// `struct ipt_get_entries` before its entries, padded to the entries' alignment.
const ENTRIES_HEADER: usize = 40;
/// Where `struct ipt_entry` has its target offset, its length and its packet counter.
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
const PACKET_COUNTER: usize = 96;
/// Where a standard target has its verdict; `-NF_DROP - 1`.
const VERDICT: usize = 32;
const VERDICT_DROP: i32 = -1;
/// More than any rule set that a kernel would still walk.
const LARGEST_TABLE: usize = 64 << 20;

fn ip_tables(root: &Path) -> anyhow::Result<Vec<BaseChain>> {
    let Ok(names) = read_text(&root.join("proc/thread-self/net/ip_tables_names")) else {
        return Ok(Vec::new());
    };
    if names.trim().is_empty() {
        return Ok(Vec::new());
    }
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
        .context("cannot read ip_tables without a raw socket (CAP_NET_RAW)")?;
    let mut chains = Vec::new();
    for name in names.lines() {
        let table = Table::read(&socket, name)
            .with_context(|| format!("cannot read the ip_tables table {name} (CAP_NET_ADMIN)"))?;
        chains.extend(table.base_chains(name));
    }
    Ok(chains)
}

/// One table as the kernel hands it out.
struct Table {
    info: [u8; INFO],
    entries: Vec<u8>,
}

impl Table {
    fn read(socket: &OwnedFd, name: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(name.len() < TABLE_NAME, "its name is too long");
        let mut info = [0; INFO];
        info[..name.len()].copy_from_slice(name.as_bytes());
        get_option(socket, GET_INFO, &mut info)?;
        let size = usize::try_from(word(&info, 80)?)?;
        anyhow::ensure!(size <= LARGEST_TABLE, "it is larger than {LARGEST_TABLE} bytes");
        let mut answer = vec![0; ENTRIES_HEADER + size];
        answer[..name.len()].copy_from_slice(name.as_bytes());
        answer[TABLE_NAME..TABLE_NAME + 4].copy_from_slice(&u32::try_from(size)?.to_ne_bytes());
        get_option(socket, GET_ENTRIES, &mut answer)?;
        Ok(Self { info, entries: answer.split_off(ENTRIES_HEADER) })
    }

    fn base_chains(&self, table: &str) -> Vec<BaseChain> {
        (0..5).filter_map(|number| self.base_chain(table, number)).collect()
    }

    /// A hook's chain begins at its hook entry; the entry at its underflow is the policy.
    fn base_chain(&self, table: &str, number: u32) -> Option<BaseChain> {
        let valid = word(&self.info, 32).ok()? & (1 << number) != 0;
        let place =
            |start: usize| word(&self.info, start + 4 * number as usize).ok().map(|offset| offset as usize);
        let (first, policy) = (place(36)?, place(56)?);
        let entry = self.entries.get(policy..)?;
        let target = usize::from(half(entry, TARGET_OFFSET)?);
        let verdict = word(entry, target + VERDICT).ok()?.cast_signed();
        let hook = hook(number).filter(|_| valid)?;
        Some(BaseChain {
            backend: RuleSetBackend::Legacy,
            table: table.to_owned(),
            chain: hook.chain_name().to_owned(),
            hook,
            priority: 0,
            policy_drops: verdict == VERDICT_DROP,
            policy_packets: Some(u64::from_ne_bytes(*entry.get(PACKET_COUNTER..)?.first_chunk()?)),
            rules: self.count(first, policy),
        })
    }

    fn count(&self, first: usize, policy: usize) -> u32 {
        let (mut at, mut rules) = (first, 0);
        while at < policy {
            match self.entries.get(at..).and_then(|entry| half(entry, NEXT_OFFSET)) {
                Some(length) if length > 0 => at += usize::from(length),
                _ => break,
            }
            rules += 1;
        }
        rules
    }
}

fn word(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    let value = bytes.get(at..).and_then(|rest| rest.first_chunk()).context("the table is cut off")?;
    Ok(u32::from_ne_bytes(*value))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn get_option(socket: &OwnedFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which is the buffer's size, and its new length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            info in prop::collection::vec(any::<u8>(), INFO),
            entries in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut table = Table { info: [0; INFO], entries };
            table.info.copy_from_slice(&info);
            table.base_chains("filter");
            nf_tables_chain(&table.entries);
        }
    }
}
