//! What rules counted between two samples.

use crate::{
    model::netfilter::Place,
    sample::{NetfilterRule, RuleChain, RuleSets, RuleTable},
};

/// What a place in a rule set counted meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Packets(u64),
    /// It has no counter.
    Nothing,
    /// The later sample does not have it, or has it with a counter that was set back.
    Unknown,
}

impl Counted {
    /// Whether it may have counted so many.
    pub fn may_be(self, packets: u64) -> bool {
        match self {
            Self::Packets(counted) => counted >= packets,
            Self::Nothing | Self::Unknown => true,
        }
    }

    pub fn packets(self) -> Option<u64> {
        match self {
            Self::Packets(counted) => Some(counted),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

/// Compares a place of an earlier rule set with the same in a later one.
pub fn counted(place: &Place<'_>, later: Option<&RuleSets>) -> Counted {
    let Some(before) = packets(place.chain, place.rule) else { return Counted::Nothing };
    let rise = || {
        let table = later?.tables.iter().find(|table| is_same_table(place.table, table))?;
        let chain = table.chains.iter().find(|chain| chain.name == place.chain.name)?;
        let rule = match place.rule {
            Some(rule) => Some(chain.rules.iter().find(|other| is_same_rule(rule, other))?),
            None => None,
        };
        packets(chain, rule)?.checked_sub(before)
    };
    rise().map_or(Counted::Unknown, Counted::Packets)
}

fn packets(chain: &RuleChain, rule: Option<&NetfilterRule>) -> Option<u64> {
    match rule {
        Some(rule) => rule.packets,
        None => chain.base.as_ref()?.policy_packets,
    }
}

fn is_same_table(one: &RuleTable, other: &RuleTable) -> bool {
    one.backend == other.backend && one.family == other.family && one.name == other.name
}

/// `ip_tables` knows a rule by its place alone.
fn is_same_rule(one: &NetfilterRule, other: &NetfilterRule) -> bool {
    let same_place =
        if one.handle.is_some() { one.handle == other.handle } else { one.number == other.number };
    same_place && one.parts == other.parts && one.comments == other.comments
}
