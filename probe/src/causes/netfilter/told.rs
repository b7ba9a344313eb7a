//! What a node tells another one of packets that its rules dropped, without the rules: hook, chain and cause.

use crate::{
    causes::{
        case::{self, Case},
        routing::drop_evidence,
        trail::Telling,
        verdict,
    },
    observation::{DropSighting, Observation, ToldDrop},
    report::document::{Certainty, Direction, EvidenceSource, Finding, Stage},
    sample::NetfilterHook,
};

/// The verdicts of a node over its own drops of one flow.
pub fn told(case: &Case<'_>, flow: u8) -> Vec<ToldDrop> {
    let located =
        verdict::of_drops(case).into_iter().filter(|located| located.place.stage == Stage::Netfilter);
    let told = located.filter_map(|located| {
        let direction = located.place.direction?;
        let Finding { cause, certainty, subject, summary, .. } = located.finding;
        let hook = case.trail.drop_here(direction)?.hook?;
        Some(ToldDrop { flow, direction, hook, cause, certainty, subject, summary })
    });
    told.collect()
}

/// The finding of the node's own verdict over a drop.
pub(super) fn finding(
    case: &Case<'_>,
    direction: Direction,
    hook: NetfilterHook,
    drop: &DropSighting,
) -> Option<Finding> {
    let Telling::Flow(flow) = case.telling else { return None };
    let Observation { told, .. } = case.observation;
    let told = told.iter().find(|told| (told.flow, told.direction, told.hook) == (flow, direction, hook))?;
    let ToldDrop { cause, certainty, subject, summary, .. } = told;
    let why = case.before.rule_sets.absent().unwrap_or_default();
    let found = case::finding(*cause, subject.kind, &subject.value, summary)
        .with_all(drop_evidence(case, Some(drop)))
        .with(EvidenceSource::Rule, format!("{} says so itself; {why}", case.node))
        .confirm(
            &case.node,
            format!("iptables-legacy-save -c; nft -a list ruleset   # what hangs on {}", hook.chain_name()),
        );
    Some(if *certainty == Certainty::Proven { found } else { found.inferred() })
}
