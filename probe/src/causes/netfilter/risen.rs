//! Where a drop cannot be seen, or does not tell its hook, rules that counted meanwhile can be told of: as no more
//! than candidates, because other packets may have met them.

use super::{
    counts::{Counted, counted},
    words,
};
use crate::{
    causes::case::Case,
    model::netfilter::{Firewall, Place},
    sample::{NetfilterHook, RulePart},
};

/// As many rules as a person reads.
const MOST: usize = 3;

/// Words on the dropping rules of these hooks that counted at least as many packets as were lost, to stand at the end
/// of a sentence; empty where there is none.
pub fn words(case: &Case<'_>, hooks: &[NetfilterHook]) -> String {
    let Some(sets) = case.before.rule_sets.known() else { return String::new() };
    let firewall = Firewall::new(sets);
    let lost = u64::try_from(case.lost()).unwrap_or(u64::MAX).max(1);
    let places = hooks.iter().flat_map(|hook| firewall.places(*hook)).filter(drops);
    let risen: Vec<String> = places
        .filter_map(|place| match counted(&place, case.after.rule_sets.known()) {
            Counted::Packets(packets) if packets >= lost => {
                Some(format!("{} counted {packets}", words::whole(&place)))
            }
            _ => None,
        })
        .take(MOST)
        .collect();
    if risen.is_empty() {
        return String::new();
    }
    format!("; it may have been a rule: meanwhile {}", risen.join("; "))
}

fn drops(place: &Place<'_>) -> bool {
    let Some(rule) = place.rule else { return true };
    rule.parts.iter().any(|part| matches!(part, RulePart::Verdict(verdict) if verdict.may_drop()))
}
