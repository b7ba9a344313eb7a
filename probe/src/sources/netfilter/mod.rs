//! The rules that IPv4 packets of this network namespace may meet, as the kernel holds them: `ip_tables` by its
//! socket options, `nf_tables` and ipsets by netlink. Only what is loaded already is asked for; asking for more
//! would load it.

mod expressions;
mod ip_tables;
mod ipsets;
mod nf_sets;
mod nf_tables;
mod xtables;

use std::path::Path;

pub use nf_sets::networks;

use crate::sample::{RulePart, RuleSets, RuleTable, SetName};
use ipsets::Ipsets;

/// More rules than any node has; what lies beyond is named as missed.
const MOST_RULES: usize = 100_000;

/// Reads the rules of both backends, and the sets that they name. What cannot be read is named in the result.
pub fn read(root: &Path) -> RuleSets {
    let ipsets = Ipsets::open(root);
    let mut budget = Budget { rules: MOST_RULES };
    let mut sets = RuleSets::default();
    for read in [nf_tables::read, ip_tables::read] {
        if let Err(error) = read(root, &ipsets, &mut budget, &mut sets) {
            sets.missed.push(format!("{error:#}"));
        }
    }
    sets.ipsets = ipsets.members(named_ipsets(&sets.tables));
    sets
}

/// How many more rules may be read.
struct Budget {
    rules: usize,
}

impl Budget {
    fn take(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.rules > 0, "there are more than {MOST_RULES} rules; the rest was not read");
        self.rules -= 1;
        Ok(())
    }
}

/// Names of the ipsets that rules ask, each once.
fn named_ipsets(tables: &[RuleTable]) -> std::collections::BTreeSet<&str> {
    let rules = tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.parts)
        .filter_map(|part| match part {
            RulePart::Member(membership) => Some(&membership.set),
            _ => None,
        })
        .filter_map(|set| match set {
            SetName::Ipset(name) => Some(name.as_str()),
            SetName::Table(_) => None,
        })
        .collect()
}
