//! The tables of `ip_tables`, by the options of a raw socket (`linux/netfilter_ipv4/ip_tables.h`): one block of
//! entries for each table, in which jumps are offsets and chains begin where a hook or an error target says so.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{
    super::files::read_text,
    Budget,
    ipsets::Ipsets,
    xtables::{Blob, add_match, add_target},
};
use crate::sample::{
    BaseChain, Comparison, DeviceMatch, Field, NetfilterHook, NetfilterRule, RuleChain, RuleFamily, RulePart,
    RuleSetBackend, RuleSets, RuleTable, Side, Verdict,
};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const TABLE_NAME: usize = 32;
/// `struct ipt_getinfo`, and where it has the hooks in use, their first entries, their policies, and the size.
const INFO: usize = 84;
const VALID_HOOKS: usize = 32;
const HOOK_ENTRIES: usize = 36;
const UNDERFLOWS: usize = 56;
const SIZE: usize = 80;
/// `struct ipt_get_entries` before its entries, padded to the entries' alignment.
const ENTRIES_HEADER: usize = 40;
/// More than any rule set that a kernel would still walk.
const LARGEST_TABLE: usize = 64 << 20;

/// Adds every table that is loaded.
pub fn read(root: &Path, ipsets: &Ipsets, budget: &mut Budget, sets: &mut RuleSets) -> anyhow::Result<()> {
    let Ok(names) = read_text(&root.join("proc/thread-self/net/ip_tables_names")) else { return Ok(()) };
    if names.trim().is_empty() {
        return Ok(());
    }
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
        .context("cannot read ip_tables without a raw socket (CAP_NET_RAW)")?;
    for name in names.lines() {
        let table = Block::read(&socket, name)
            .and_then(|block| block.table(name, ipsets, budget))
            .with_context(|| format!("cannot read the ip_tables table {name} (CAP_NET_ADMIN)"))?;
        sets.tables.push(table);
    }
    Ok(())
}

/// One table as the kernel hands it out.
struct Block {
    info: [u8; INFO],
    entries: Vec<u8>,
}

/// A chain that is being read.
struct Opened {
    chain: RuleChain,
    /// The offset of its policy, for a chain of a hook.
    policy_at: Option<usize>,
}

impl Block {
    fn read(socket: &OwnedFd, name: &str) -> anyhow::Result<Self> {
        ensure!(name.len() < TABLE_NAME, "its name is too long");
        let mut info = [0; INFO];
        info[..name.len()].copy_from_slice(name.as_bytes());
        get_option(socket, GET_INFO, &mut info)?;
        let size = usize::try_from(Blob(&info).word(SIZE).unwrap_or_default())?;
        ensure!(size <= LARGEST_TABLE, "it is larger than {LARGEST_TABLE} bytes");
        let mut answer = vec![0; ENTRIES_HEADER + size];
        answer[..name.len()].copy_from_slice(name.as_bytes());
        answer[TABLE_NAME..TABLE_NAME + 4].copy_from_slice(&u32::try_from(size)?.to_ne_bytes());
        get_option(socket, GET_ENTRIES, &mut answer)?;
        Ok(Self { info, entries: answer.split_off(ENTRIES_HEADER) })
    }

    fn table(&self, name: &str, ipsets: &Ipsets, budget: &mut Budget) -> anyhow::Result<RuleTable> {
        let starts = self.chain_starts(name);
        let mut chains: Vec<RuleChain> = Vec::new();
        let mut open: Option<Opened> = None;
        let mut at = 0;
        while let Some(bytes) = self.entries.get(at..).filter(|rest| !rest.is_empty()) {
            let entry = Entry::new(bytes).context("an entry is cut off")?;
            let next = at + entry.length;
            if let Some(start) = starts.get(&at) {
                chains.extend(open.replace(start.open()).map(Opened::end));
            }
            if entry.is_head() {
                chains.extend(open.take().map(Opened::end));
            } else if let Some(opened) = &mut open {
                budget.take()?;
                opened.add(at, next, &entry, &starts, ipsets)?;
            }
            at = next;
        }
        chains.extend(open.map(Opened::end));
        Ok(RuleTable {
            backend: RuleSetBackend::Legacy,
            family: RuleFamily::Ip,
            name: name.to_owned(),
            chains,
            sets: Vec::new(),
        })
    }

    /// The chains by the offsets of their first entries.
    fn chain_starts(&self, table: &str) -> BTreeMap<usize, Start> {
        let mut starts = BTreeMap::new();
        let mut at = 0;
        while let Some(entry) = self.entries.get(at..).and_then(Entry::new) {
            at += entry.length;
            if let Some(name) = entry.head() {
                starts.insert(at, Start { name, base: None });
            }
        }
        let info = Blob(&self.info);
        let valid = info.word(VALID_HOOKS).unwrap_or_default();
        for (number, hook) in
            NetfilterHook::ALL.into_iter().enumerate().filter(|(n, _)| valid & (1 << n) != 0)
        {
            let place = |list: usize| info.word(list + 4 * number).map(|offset| offset as usize);
            if let (Some(first), Some(policy_at)) = (place(HOOK_ENTRIES), place(UNDERFLOWS)) {
                let name = hook.chain_name().to_owned();
                let base =
                    BaseStart { hook, priority: hook.priority_in(table), nat: table == "nat", policy_at };
                starts.insert(first, Start { name, base: Some(base) });
            }
        }
        starts
    }
}

/// Where a chain begins, and which.
struct Start {
    name: String,
    base: Option<BaseStart>,
}

struct BaseStart {
    hook: NetfilterHook,
    priority: i32,
    nat: bool,
    policy_at: usize,
}

impl Start {
    fn open(&self) -> Opened {
        let base = self.base.as_ref().map(|base| BaseChain {
            hook: base.hook,
            priority: base.priority,
            first_packets_only: base.nat,
            policy_drops: false,
            policy_packets: None,
        });
        Opened {
            chain: RuleChain { name: self.name.clone(), base, rules: Vec::new() },
            policy_at: self.base.as_ref().map(|base| base.policy_at),
        }
    }
}

impl Opened {
    fn add(
        &mut self,
        at: usize,
        next: usize,
        entry: &Entry<'_>,
        starts: &BTreeMap<usize, Start>,
        ipsets: &Ipsets,
    ) -> anyhow::Result<()> {
        if let (Some(base), true) = (&mut self.chain.base, self.policy_at == Some(at)) {
            base.policy_drops = entry.verdict() == Some(VERDICT_DROP);
            base.policy_packets = Some(entry.packets);
            return Ok(());
        }
        let mut rule = NetfilterRule {
            number: u32::try_from(self.chain.rules.len() + 1)?,
            packets: Some(entry.packets),
            ..NetfilterRule::default()
        };
        entry.add_header(&mut rule);
        for found in entry.matches() {
            add_match(&mut rule, &found.name, found.revision, found.info, ipsets);
        }
        match entry.verdict() {
            Some(offset) if usize::try_from(offset).is_ok_and(|offset| offset == next) => {}
            Some(verdict) => rule.parts.push(RulePart::Verdict(entry.standard(verdict, starts)?)),
            None => add_target(&mut rule, &entry.target.name, entry.target.revision, entry.target.info),
        }
        self.chain.rules.push(rule);
        Ok(())
    }

    /// Without the entry by which the kernel returns from a chain that is no hook's.
    fn end(mut self) -> RuleChain {
        if self.chain.base.is_none() {
            self.chain.rules.pop();
        }
        self.chain
    }
}

/// `struct ipt_entry` before its matches, and its places: interfaces, protocol and flags of `struct ipt_ip`.
const ENTRY: usize = 112;
const SOURCE: usize = 0;
const DESTINATION: usize = 4;
const SOURCE_MASK: usize = 8;
const DESTINATION_MASK: usize = 12;
const INPUT: usize = 16;
const OUTPUT: usize = 32;
const INPUT_MASK: usize = 48;
const OUTPUT_MASK: usize = 64;
const PROTOCOL: usize = 80;
const FLAGS: usize = 82;
const INVERTED: usize = 83;
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
const PACKET_COUNTER: usize = 96;
const DEVICE_NAME: usize = 16;
/// `struct xt_entry_match` and `struct xt_entry_target` before their information: size, name, revision.
const EXTENSION: usize = 32;
const EXTENSION_NAME: usize = 29;
const ERROR_TARGET: &str = "ERROR";
/// Verdicts of the standard target: `-NF_DROP - 1`, …, `XT_RETURN`.
const VERDICT_DROP: i32 = -1;
const VERDICT_ACCEPT: i32 = -2;
const VERDICT_QUEUE: i32 = -4;
const VERDICT_RETURN: i32 = -5;

/// A match or a target.
struct Extension<'a> {
    name: String,
    revision: u8,
    info: &'a [u8],
    length: usize,
}

impl<'a> Extension<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let head = Blob(bytes);
        let length = usize::from(head.half(0)?);
        Some(Self {
            name: head.text(2, EXTENSION_NAME)?,
            revision: head.byte(2 + EXTENSION_NAME)?,
            info: bytes.get(EXTENSION..length)?,
            length,
        })
    }
}

struct Entry<'a> {
    bytes: &'a [u8],
    length: usize,
    target: Extension<'a>,
    target_at: usize,
    packets: u64,
}

impl<'a> Entry<'a> {
    /// The first entry of these bytes.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let head = Blob(bytes);
        let target_at = usize::from(head.half(TARGET_OFFSET)?);
        let length = usize::from(head.half(NEXT_OFFSET)?);
        if target_at < ENTRY || length < target_at + EXTENSION {
            return None;
        }
        let bytes = bytes.get(..length)?;
        let target = Extension::new(bytes.get(target_at..)?)?;
        let packets = u64::from_ne_bytes(*bytes.get(PACKET_COUNTER..)?.first_chunk()?);
        Some(Self { bytes, length, target, target_at, packets })
    }

    fn is_head(&self) -> bool {
        self.target.name == ERROR_TARGET
    }

    /// The name of the chain that begins behind this entry; the last entry of a table has none behind it.
    fn head(&self) -> Option<String> {
        self.is_head().then(|| Blob(self.target.info).text(0, 30)).flatten()
    }

    /// What the standard target, the one without a name, says.
    fn verdict(&self) -> Option<i32> {
        self.target.name.is_empty().then(|| Blob(self.target.info).word(0).map(u32::cast_signed)).flatten()
    }

    fn matches(&self) -> impl Iterator<Item = Extension<'a>> {
        let mut rest = self.bytes.get(ENTRY..self.target_at).unwrap_or_default();
        std::iter::from_fn(move || {
            let found = Extension::new(rest).filter(|found| found.length >= EXTENSION)?;
            rest = rest.get(found.length..).unwrap_or_default();
            Some(found)
        })
    }

    fn standard(&self, verdict: i32, starts: &BTreeMap<usize, Start>) -> anyhow::Result<Verdict> {
        const GOTO: u8 = 2;
        Ok(match verdict {
            VERDICT_DROP => Verdict::Drop,
            VERDICT_ACCEPT => Verdict::Accept,
            VERDICT_QUEUE => Verdict::Queue,
            VERDICT_RETURN => Verdict::Return,
            offset => {
                let Some(start) = usize::try_from(offset).ok().and_then(|offset| starts.get(&offset)) else {
                    bail!("a rule jumps to {offset}, where no chain begins");
                };
                let goto = self.bytes.get(FLAGS).is_some_and(|flags| flags & GOTO != 0);
                if goto { Verdict::Goto(start.name.clone()) } else { Verdict::Jump(start.name.clone()) }
            }
        })
    }

    /// What `struct ipt_ip` asks of a packet.
    fn add_header(&self, rule: &mut NetfilterRule) {
        const INVERT_INPUT: u8 = 1;
        const INVERT_OUTPUT: u8 = 2;
        const INVERT_SOURCE: u8 = 8;
        const INVERT_DESTINATION: u8 = 0x10;
        const INVERT_FRAGMENT: u8 = 0x20;
        const INVERT_PROTOCOL: u8 = 0x40;
        const FRAGMENT: u8 = 1;
        let head = Blob(self.bytes);
        let inverted = |bit| head.byte(INVERTED).unwrap_or_default() & bit != 0;
        let mut compare = |field, mask, value, invert| {
            let ranges = vec![(value, value)];
            rule.parts.push(RulePart::Compare(Comparison { field, mask, ranges, invert }));
        };
        for (field, value, mask, invert) in [
            (Field::SourceAddress, SOURCE, SOURCE_MASK, INVERT_SOURCE),
            (Field::DestinationAddress, DESTINATION, DESTINATION_MASK, INVERT_DESTINATION),
        ] {
            let number = |at| head.word(at).map_or(0, u32::from_be);
            if number(mask) != 0 || inverted(invert) {
                compare(field, number(mask), number(value), inverted(invert));
            }
        }
        let protocol = u32::from(head.half(PROTOCOL).unwrap_or_default());
        if protocol != 0 {
            compare(Field::Protocol, u32::MAX, protocol, inverted(INVERT_PROTOCOL));
        }
        if head.byte(FLAGS).unwrap_or_default() & FRAGMENT != 0 {
            compare(Field::LaterFragment, u32::MAX, 1, inverted(INVERT_FRAGMENT));
        }
        for (side, name, mask, invert) in [
            (Side::Input, INPUT, INPUT_MASK, INVERT_INPUT),
            (Side::Output, OUTPUT, OUTPUT_MASK, INVERT_OUTPUT),
        ] {
            rule.parts.extend(self.device(side, name, mask, inverted(invert)));
        }
    }

    /// A name of which the mask says how much counts: the terminating zero too, or what it must begin with.
    fn device(&self, side: Side, name: usize, mask: usize, invert: bool) -> Option<RulePart> {
        let mask = self.bytes.get(mask..mask + DEVICE_NAME)?;
        let counts = mask.iter().take_while(|byte| **byte != 0).count();
        if counts == 0 && !invert {
            return None;
        }
        let text = Blob(self.bytes).text(name, counts)?;
        let prefix = text.len() == counts;
        Some(RulePart::Device(DeviceMatch { side, name: text, prefix, invert }))
    }
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

    /// A standard target with a verdict, or an error target with a chain's name.
    fn target(name: &str, info: &[u8]) -> Vec<u8> {
        let length = (EXTENSION + info.len()).next_multiple_of(8);
        let mut bytes = u16::try_from(length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.resize(EXTENSION, 0);
        bytes.extend(info);
        bytes.resize(length, 0);
        bytes
    }

    fn entry(target: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0; ENTRY];
        bytes[TARGET_OFFSET..TARGET_OFFSET + 2].copy_from_slice(&112u16.to_ne_bytes());
        let length = u16::try_from(ENTRY + target.len()).unwrap();
        bytes[NEXT_OFFSET..NEXT_OFFSET + 2].copy_from_slice(&length.to_ne_bytes());
        change(&mut bytes);
        bytes.extend(target);
        bytes
    }

    fn verdict(verdict: i32) -> Vec<u8> {
        entry(&target("", &verdict.to_ne_bytes()), |_| {})
    }

    /// INPUT with a `goto` to a chain of its own and the policy DROP.
    fn block() -> Block {
        let chain_at: i32 = 2 * 152 + 176;
        let go = entry(&target("", &chain_at.to_ne_bytes()), |head| {
            head[FLAGS] = 2;
            head[INPUT..INPUT + 4].copy_from_slice(b"cali");
            head[INPUT_MASK..INPUT_MASK + 4].fill(0xff);
            head[SOURCE..SOURCE + 4].copy_from_slice(&[10, 0, 0, 0]);
            head[SOURCE_MASK] = 0xff;
        });
        let head = |name: &[u8; 6]| entry(&target("ERROR", &[&name[..], &[0; 26]].concat()), |_| {});
        let entries = [
            go,
            verdict(VERDICT_DROP),
            head(b"caught"),
            verdict(VERDICT_ACCEPT),
            verdict(VERDICT_RETURN),
            head(b"ERROR\0"),
        ]
        .concat();
        let mut info = [0; INFO];
        info[VALID_HOOKS] = 1 << 1;
        info[UNDERFLOWS + 4] = 152;
        Block { info, entries }
    }

    #[test]
    fn chains_policies_and_jumps_are_read() {
        let table = block().table("filter", &Ipsets::none(), &mut Budget { rules: 10 }).unwrap();
        let [input, caught] = &table.chains[..] else { panic!("{table:?}") };
        assert_eq!((input.name.as_str(), caught.name.as_str()), ("INPUT", "caught"));
        assert!(input.base.as_ref().unwrap().policy_drops);
        assert_eq!(
            input.rules[0].parts,
            [
                RulePart::Compare(Comparison {
                    field: Field::SourceAddress,
                    mask: 0xff00_0000,
                    ranges: vec![(0x0a00_0000, 0x0a00_0000)],
                    invert: false
                }),
                RulePart::Device(DeviceMatch {
                    side: Side::Input,
                    name: "cali".into(),
                    prefix: true,
                    invert: false
                }),
                RulePart::Verdict(Verdict::Goto("caught".into())),
            ]
        );
        assert_eq!(caught.rules.len(), 1, "without the end that iptables does not show");
        assert_eq!(caught.rules[0].parts, [RulePart::Verdict(Verdict::Accept)]);
    }

    #[test]
    fn more_rules_than_are_to_be_read_are_refused() {
        assert!(block().table("filter", &Ipsets::none(), &mut Budget { rules: 1 }).is_err());
    }

    proptest! {
        #[test]
        fn any_change_is_read_without_a_panic(
            at in 0usize..1000,
            bytes in prop::collection::vec(any::<u8>(), 1..40),
            in_info in any::<bool>(),
        ) {
            let mut block = block();
            let field = if in_info { &mut block.info[..] } else { &mut block.entries[..] };
            let at = at % field.len();
            for (place, byte) in field[at..].iter_mut().zip(bytes) {
                *place = byte;
            }
            let _ = block.table("filter", &Ipsets::none(), &mut Budget { rules: 100 });
        }
    }
}
