//! What the rules of netfilter do with a packet: the chains of a hook are walked in the kernel's order, and every
//! rule at which the packet may be lost is named. Rules may ask what is not known, so each answer is yes, no, or
//! undecided, and nothing undecided is taken for either.

mod matching;
mod truth;
mod walk;

use std::{collections::HashMap, net::Ipv4Addr};

pub use truth::{Bits, Truth};
pub use walk::{Stop, Walk};

use crate::sample::{
    BaseChain, ConnectionState, NetfilterHook, NetfilterRule, RuleChain, RuleSetMembers, RuleSets, RuleTable,
    SetName,
};

/// A packet as the rules of one hook see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// IPv4 protocol number.
    pub protocol: u8,
    pub transport: Transport,
    pub input: Device<'a>,
    pub output: Device<'a>,
    /// `skb->mark` when it reaches the hook.
    pub mark: Bits,
    /// `None` where it is not known.
    pub connection: Option<ConnectionState>,
}

/// What of the packet's transport header is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Icmp {
        icmp_type: u8,
        code: u8,
    },
    /// TCP or UDP.
    Ports {
        source: Option<u16>,
        destination: Option<u16>,
        tcp_flags: Option<u8>,
    },
    Unknown,
}

/// A device by which a packet came in or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device<'a> {
    /// At this hook there is none.
    Absent,
    Unknown,
    Known {
        index: u32,
        name: &'a str,
    },
}

/// A place in a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub table: &'a RuleTable,
    pub chain: &'a RuleChain,
    /// `None` for the chain's policy.
    pub rule: Option<&'a NetfilterRule>,
}

/// The rule sets, ordered for walks.
pub struct Firewall<'a> {
    tables: Vec<Table<'a>>,
    ipsets: HashMap<&'a str, &'a RuleSetMembers>,
}

struct Table<'a> {
    whole: &'a RuleTable,
    chains: HashMap<&'a str, &'a RuleChain>,
    sets: HashMap<&'a str, &'a RuleSetMembers>,
}

/// A chain of a hook.
#[derive(Clone, Copy)]
struct Entrance<'f, 'a> {
    table: &'f Table<'a>,
    chain: &'a RuleChain,
    base: &'a BaseChain,
}

impl<'a> Firewall<'a> {
    pub fn new(sets: &'a RuleSets) -> Self {
        let by_name = |sets: &'a [RuleSetMembers]| sets.iter().map(|set| (set.name.as_str(), set)).collect();
        let tables = sets.tables.iter().map(|table| Table {
            whole: table,
            chains: table.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect(),
            sets: by_name(&table.sets),
        });
        Self { tables: tables.collect(), ipsets: by_name(&sets.ipsets) }
    }

    /// The chains of a hook, in the order in which they are called.
    fn entrances(&self, hook: NetfilterHook) -> Vec<Entrance<'_, 'a>> {
        let chains =
            self.tables.iter().flat_map(|table| table.whole.chains.iter().map(move |chain| (table, chain)));
        let mut entrances: Vec<Entrance<'_, 'a>> = chains
            .filter_map(|(table, chain)| chain.base.as_ref().map(|base| Entrance { table, chain, base }))
            .filter(|entrance| entrance.base.hook == hook)
            .collect();
        entrances.sort_by_key(|entrance| entrance.base.priority);
        entrances
    }

    /// The dropping policies and the rules of this hook's own chains and all that they lead to.
    pub fn places(&self, hook: NetfilterHook) -> Vec<Place<'a>> {
        let mut places = Vec::new();
        for entrance in self.entrances(hook) {
            let table = entrance.table.whole;
            for chain in entrance.table.reachable(entrance.chain) {
                places.extend(chain.rules.iter().map(|rule| Place { table, chain, rule: Some(rule) }));
                if chain.base.as_ref().is_some_and(|base| base.policy_drops) {
                    places.push(Place { table, chain, rule: None });
                }
            }
        }
        places
    }

    /// The bits of a packet's mark that rules of this hook may change.
    pub fn changed_mark_bits(&self, hook: NetfilterHook) -> u32 {
        let rules = self.places(hook).into_iter().filter_map(|place| place.rule);
        rules.flat_map(|rule| &rule.parts).map(walk::changed_bits).fold(0, |all, bits| all | bits)
    }
}

impl<'a> Table<'a> {
    fn set<'f>(&'f self, firewall: &'f Firewall<'a>, name: &SetName) -> Option<&'a RuleSetMembers> {
        match name {
            SetName::Ipset(name) => firewall.ipsets.get(name.as_str()),
            SetName::Table(name) => self.sets.get(name.as_str()),
        }
        .copied()
    }

    /// A chain and every chain that its rules may lead to.
    fn reachable(&self, first: &'a RuleChain) -> Vec<&'a RuleChain> {
        let mut found = vec![first];
        let mut at = 0;
        while let Some(chain) = found.get(at).copied() {
            let names = chain.rules.iter().flat_map(|rule| &rule.parts).flat_map(|part| self.targets(part));
            for target in names.filter_map(|name| self.chains.get(name)) {
                if !found.iter().any(|other| std::ptr::eq(*other, *target)) {
                    found.push(target);
                }
            }
            at += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests;
