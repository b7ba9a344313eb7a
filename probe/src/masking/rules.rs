//! Addresses in rules of netfilter are numbers, and ranges of them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::addresses::Addresses;
use crate::sample::{
    Comparison, Fact, Field, KeyPart, Member, Membership, RulePart, RuleSetMembers, RuleSets, SetName,
};

/// Ports, protocols and marks of a byte are below.
const LEAST_ADDRESS: u32 = 0x0100_0000;

pub fn mask(addresses: &mut Addresses, sets: &mut RuleSets) {
    let keys = keys(sets);
    for table in &mut sets.tables {
        for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            for part in &mut rule.parts {
                if let RulePart::Compare(comparison) = part
                    && is_address(comparison.field)
                    && !compare(addresses, comparison)
                {
                    *part = RulePart::NotUnderstood("a masked address".to_owned());
                }
            }
        }
        for set in &mut table.sets {
            members(addresses, keys.get(&set.name), set);
        }
    }
    for set in &mut sets.ipsets {
        members(addresses, keys.get(&set.name), set);
    }
}

fn is_address(field: Field) -> bool {
    matches!(field, Field::SourceAddress | Field::DestinationAddress)
}

/// What the keys of each set are compared with, by the rules that look into it.
fn keys(sets: &RuleSets) -> BTreeMap<String, Vec<Field>> {
    let parts = sets
        .tables
        .iter()
        .flat_map(|table| &table.chains)
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.parts);
    parts
        .filter_map(|part| match part {
            RulePart::Member(Membership { set, key, .. })
            | RulePart::VerdictMap(Membership { set, key, .. }) => {
                let (SetName::Ipset(name) | SetName::Table(name)) = set;
                Some((name.clone(), key.clone()))
            }
            _ => None,
        })
        .collect()
}

/// Whether it could be replaced: a mask that is no prefix splits an address.
fn compare(addresses: &mut Addresses, comparison: &mut Comparison) -> bool {
    let mask = comparison.mask;
    if mask.leading_ones() + mask.trailing_zeros() < 32 {
        return false;
    }
    let ranges = comparison.ranges.iter().flat_map(|(first, last)| blocks(*first, *last | !mask));
    let mut masked: Vec<(u32, u32)> = ranges.map(|block| range(addresses.network(block), mask)).collect();
    masked.sort_unstable();
    comparison.ranges = masked;
    true
}

fn range(network: Ipv4Net, mask: u32) -> (u32, u32) {
    (network.network().to_bits() & mask, network.broadcast().to_bits() & mask)
}

/// The networks that a range is made of.
fn blocks(first: u32, last: u32) -> Vec<Ipv4Net> {
    let range = ipnet::Ipv4Subnets::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last.max(first)), 0);
    range.collect()
}

/// A member whose range is several networks becomes several.
fn members(addresses: &mut Addresses, fields: Option<&Vec<Field>>, set: &mut RuleSetMembers) {
    let Fact::Known(members) = &mut set.members else { return };
    *members = members.iter().flat_map(|member| member_of(addresses, fields, member)).collect();
}

fn member_of(addresses: &mut Addresses, fields: Option<&Vec<Field>>, member: &Member) -> Vec<Member> {
    let mut keys: Vec<Vec<KeyPart>> = vec![Vec::new()];
    for (at, part) in member.key.iter().enumerate() {
        let parts: Vec<KeyPart> = match part {
            KeyPart::Range(first, last) if holds_addresses(fields, at, *last) => blocks(*first, *last)
                .into_iter()
                .map(|block| {
                    let (first, last) = range(addresses.network(block), u32::MAX);
                    KeyPart::Range(first, last)
                })
                .collect(),
            other => vec![other.clone()],
        };
        keys = keys
            .iter()
            .flat_map(|key| parts.iter().map(|part| [key.clone(), vec![part.clone()]].concat()))
            .collect();
    }
    keys.into_iter().map(|key| Member { key, ..member.clone() }).collect()
}

/// By what the set is asked for, or, where no rule does, by the size of the numbers.
fn holds_addresses(fields: Option<&Vec<Field>>, at: usize, last: u32) -> bool {
    match fields.and_then(|fields| fields.get(at)) {
        Some(field) => is_address(*field),
        None => last >= LEAST_ADDRESS,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::masking::Key;

    proptest! {
        /// An address matches after masking exactly if it did before.
        #[test]
        fn ranges_keep_their_addresses(
            key: u64, first in 0x0a00_0000_u32..0x0b00_0000, length in 0_u32..5000, other in 0x0a00_0000_u32..0x0b00_0000,
        ) {
            let mut addresses = Addresses::new(Key::new(key.to_be_bytes()));
            let last = first.saturating_add(length);
            let mut comparison =
                Comparison { field: Field::SourceAddress, mask: u32::MAX, ranges: vec![(first, last)], invert: false };
            prop_assert!(compare(&mut addresses, &mut comparison));
            for address in [first, last, other, first.wrapping_sub(1), last + 1] {
                let masked = addresses.address(Ipv4Addr::from_bits(address)).to_bits();
                let matches = comparison.ranges.iter().any(|(first, last)| (*first..=*last).contains(&masked));
                prop_assert_eq!(matches, (first..=last).contains(&address));
            }
        }
    }
}
