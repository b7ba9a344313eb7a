//! The tables of `nf_tables` that IPv4 packets meet, by netlink (`linux/netfilter/nf_tables.h`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{
    super::raw_netlink::{DUMP, RawNetlink, attribute, text},
    Budget,
    expressions::{Decoder, comment},
    ipsets::Ipsets,
    nf_sets,
};
use crate::sample::{
    BaseChain, NetfilterHook, NetfilterRule, RuleChain, RuleFamily, RulePart, RuleSetBackend, RuleSets,
    RuleTable,
};

/// `NFNL_SUBSYS_NFTABLES << 8`, to which the messages' numbers are added.
pub const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM + 1;
const GET_CHAIN: u16 = SUBSYSTEM + 4;
const GET_RULE: u16 = SUBSYSTEM + 7;
const GET_GENERATION: u16 = SUBSYSTEM + 16;
/// `struct nfgenmsg`.
pub const GENERIC_HEADER: usize = 4;

const GENERATION_ID: u16 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
/// `NFT_TABLE_F_DORMANT`: its chains hang on no hook.
const DORMANT: u32 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const CHAIN_COUNTERS: u16 = 8;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const COUNTER_PACKETS: u16 = 2;
const POLICY_DROP: u32 = 0;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USER_DATA: u16 = 7;

/// `NFPROTO_INET` and `NFPROTO_IPV4`.
const FAMILIES: [(u8, RuleFamily); 2] = [(1, RuleFamily::Inet), (2, RuleFamily::Ip)];
/// Families whose rules IPv4 packets may meet as frames, which no hook of IPv4 shows.
const FRAME_FAMILIES: [(u8, &str); 2] = [(5, "netdev"), (7, "bridge")];
/// How often a dump is begun again because rules changed meanwhile.
const ATTEMPTS: usize = 3;

/// Opens the netlink of netfilter; `None` where this kernel has no `nf_tables` in use.
pub fn open(root: &Path) -> anyhow::Result<Option<RawNetlink>> {
    let modular = root.join("proc/modules").exists();
    if modular && !root.join("sys/module/nf_tables").exists() {
        return Ok(None);
    }
    RawNetlink::open(NETLINK_NETFILTER).map(Some)
}

/// Adds every table that is awake.
pub fn read(root: &Path, ipsets: &Ipsets, budget: &mut Budget, sets: &mut RuleSets) -> anyhow::Result<()> {
    let Some(netlink) = open(root)? else { return Ok(()) };
    let rules_left = budget.rules;
    for attempt in 1..=ATTEMPTS {
        let before = generation(&netlink);
        budget.rules = rules_left;
        let mut tables = Vec::new();
        let mut elsewhere = BTreeSet::new();
        for (number, family) in FAMILIES {
            let reader = Reader { netlink: &netlink, number, ipsets };
            tables.extend(reader.tables(family, budget, &mut elsewhere)?);
        }
        for (number, name) in FRAME_FAMILIES {
            let reader = Reader { netlink: &netlink, number, ipsets };
            elsewhere.extend(reader.dropping_tables(name, budget)?);
        }
        let changed = before != generation(&netlink);
        if changed && attempt < ATTEMPTS {
            continue;
        }
        if changed {
            sets.missed.push("the rules of nf_tables changed while they were read".to_owned());
        }
        sets.tables.extend(tables);
        sets.elsewhere.extend(elsewhere);
        break;
    }
    Ok(())
}

/// The number that each change of any table raises; `None` where it is not told.
fn generation(netlink: &RawNetlink) -> Option<Vec<u8>> {
    let answers = netlink.request(GET_GENERATION, 0, &[0; GENERIC_HEADER]).ok()?;
    answers.iter().find_map(|answer| attribute(body(&answer.payload), GENERATION_ID).map(<[u8]>::to_vec))
}

pub fn body(payload: &[u8]) -> &[u8] {
    payload.get(GENERIC_HEADER..).unwrap_or_default()
}

/// The subsystem, or what was asked for, is not in this kernel.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | libc::EAFNOSUPPORT))
}

/// Reads the tables of one family.
struct Reader<'a> {
    netlink: &'a RawNetlink,
    number: u8,
    ipsets: &'a Ipsets,
}

impl Reader<'_> {
    fn dump(&self, message: u16, what: &str) -> anyhow::Result<Vec<Vec<u8>>> {
        match self.netlink.request(message, DUMP, &[self.number, 0, 0, 0]) {
            Ok(answers) => Ok(answers.into_iter().map(|answer| answer.payload).collect()),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read the {what} of nf_tables (CAP_NET_ADMIN)"))
            }
        }
    }

    fn tables(
        &self,
        family: RuleFamily,
        budget: &mut Budget,
        elsewhere: &mut BTreeSet<String>,
    ) -> anyhow::Result<Vec<RuleTable>> {
        let tables = self.dump(GET_TABLE, "tables")?;
        let awake: Vec<String> = tables.iter().filter_map(|table| awake_table(body(table))).collect();
        if awake.is_empty() {
            return Ok(Vec::new());
        }
        let chains = self.dump(GET_CHAIN, "chains")?;
        let rules = self.dump(GET_RULE, "rules")?;
        awake
            .into_iter()
            .map(|name| {
                let mut chains = chains_of(&name, &chains);
                let declared = nf_sets::declared(self.netlink, self.number, &name)?;
                let mut decoder = Decoder::new(self.ipsets, &declared);
                add_rules(&name, &rules, &mut chains, &mut decoder, budget)?;
                let sets = nf_sets::read(self.netlink, self.number, &name, &declared, decoder.keys());
                let mut read = Vec::new();
                for chain in chains {
                    if chain.hangs_elsewhere && !chain.chain.rules.is_empty() {
                        elsewhere.insert(format!(
                            "chain {} of nft table {name}, where packets enter a device",
                            chain.chain.name
                        ));
                    }
                    read.push(chain.chain);
                }
                Ok(RuleTable { backend: RuleSetBackend::NfTables, family, name, chains: read, sets })
            })
            .collect()
    }

    /// Tables of this family in which anything may drop, by family and name.
    fn dropping_tables(&self, family: &str, budget: &mut Budget) -> anyhow::Result<BTreeSet<String>> {
        let mut tables = BTreeSet::new();
        let mut found = |table: &str| {
            tables.insert(format!("nft table {family} {table}"));
        };
        for chain in self.dump(GET_CHAIN, "chains")? {
            let (chain, table) = (body(&chain), attribute(body(&chain), CHAIN_TABLE).map(text));
            if let (Some(POLICY_DROP), Some(table)) = (number(chain, CHAIN_POLICY), table) {
                found(&table);
            }
        }
        for rule in self.dump(GET_RULE, "rules")? {
            budget.take()?;
            let rule = body(&rule);
            let mut read = NetfilterRule::default();
            let expressions = attribute(rule, RULE_EXPRESSIONS).unwrap_or_default();
            Decoder::new(self.ipsets, &nf_sets::DeclaredSets::new()).add(expressions, &mut read);
            if let (true, Some(table)) = (may_drop(&read), attribute(rule, RULE_TABLE)) {
                found(&text(table));
            }
        }
        Ok(tables)
    }
}

fn awake_table(bytes: &[u8]) -> Option<String> {
    let flags = number(bytes, TABLE_FLAGS).unwrap_or_default();
    (flags & DORMANT == 0).then(|| attribute(bytes, TABLE_NAME).map(text)).flatten()
}

/// A chain, and whether it hangs on a hook that no IPv4 packet's drop names (device ingress).
struct ReadChain {
    chain: RuleChain,
    hangs_elsewhere: bool,
}

fn chains_of(table: &str, answers: &[Vec<u8>]) -> Vec<ReadChain> {
    let own = answers
        .iter()
        .map(|answer| body(answer))
        .filter(|chain| attribute(chain, CHAIN_TABLE).is_some_and(|name| text(name) == table));
    own.filter_map(read_chain).collect()
}

fn read_chain(bytes: &[u8]) -> Option<ReadChain> {
    let place = attribute(bytes, CHAIN_HOOK);
    let base = place.and_then(|place| base_chain(bytes, place));
    Some(ReadChain {
        hangs_elsewhere: place.is_some() && base.is_none(),
        chain: RuleChain { name: text(attribute(bytes, CHAIN_NAME)?), base, rules: Vec::new() },
    })
}

fn base_chain(bytes: &[u8], place: &[u8]) -> Option<BaseChain> {
    let hook = usize::try_from(number(place, HOOK_NUMBER)?).ok()?;
    let counters = attribute(bytes, CHAIN_COUNTERS);
    Some(BaseChain {
        hook: NetfilterHook::ALL.get(hook).copied()?,
        priority: number(place, HOOK_PRIORITY)?.cast_signed(),
        first_packets_only: attribute(bytes, CHAIN_TYPE).is_some_and(|kind| text(kind) == "nat"),
        policy_drops: number(bytes, CHAIN_POLICY) == Some(POLICY_DROP),
        policy_packets: counters.and_then(|counters| wide_number(counters, COUNTER_PACKETS)),
    })
}

fn add_rules(
    table: &str,
    answers: &[Vec<u8>],
    chains: &mut [ReadChain],
    decoder: &mut Decoder<'_>,
    budget: &mut Budget,
) -> anyhow::Result<()> {
    let places: BTreeMap<String, usize> =
        chains.iter().enumerate().map(|(place, chain)| (chain.chain.name.clone(), place)).collect();
    for bytes in answers.iter().map(|answer| body(answer)) {
        if attribute(bytes, RULE_TABLE).is_none_or(|name| text(name) != table) {
            continue;
        }
        let Some(place) = attribute(bytes, RULE_CHAIN).and_then(|name| places.get(&text(name))) else {
            continue;
        };
        budget.take()?;
        let rules = &mut chains[*place].chain.rules;
        let mut rule = NetfilterRule {
            number: u32::try_from(rules.len() + 1)?,
            handle: wide_number(bytes, RULE_HANDLE),
            comments: attribute(bytes, RULE_USER_DATA).and_then(comment).into_iter().collect(),
            ..NetfilterRule::default()
        };
        decoder.add(attribute(bytes, RULE_EXPRESSIONS).unwrap_or_default(), &mut rule);
        rules.push(rule);
    }
    Ok(())
}

fn may_drop(rule: &NetfilterRule) -> bool {
    rule.parts.iter().any(|part| match part {
        RulePart::Verdict(verdict) => verdict.may_drop(),
        RulePart::VerdictMap(_) => true,
        _ => false,
    })
}

/// A number of 32 bits in network byte order, as `nf_tables` has them all.
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*attribute(bytes, kind)?.first_chunk()?))
}

pub fn wide_number(bytes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(*attribute(bytes, kind)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            awake_table(&bytes);
            read_chain(&bytes);
        }
    }
}
