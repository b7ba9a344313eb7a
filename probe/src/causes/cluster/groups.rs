//! What is wrong with many nodes by its causes, the worst first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use serde::Serialize;

use super::Node;
use crate::{
    causes::Cause,
    report::document::{Certainty, Finding, Severity, SubjectKind},
};

/// One cause, and all that have it.
#[derive(Debug, Serialize)]
pub struct Group {
    pub cause: Cause,
    /// Of the worst.
    pub severity: Severity,
    /// Proven where any is.
    pub certainty: Certainty,
    /// How many nodes have it.
    pub nodes: usize,
    /// How many there are.
    pub of: usize,
    /// The worst first, then as the nodes were given.
    pub findings: Vec<OfNode>,
}

#[derive(Clone, Debug, Serialize)]
pub struct OfNode {
    pub node: String,
    #[serde(flatten)]
    pub finding: Finding,
    #[serde(skip)]
    place: usize,
}

/// Puts together what `check` says of each node and what the others show of it.
pub fn group(nodes: &[Node], joined: &[(usize, Finding)]) -> Vec<Group> {
    let mut by_cause: BTreeMap<Cause, Vec<OfNode>> = BTreeMap::new();
    let mut known: HashMap<(Cause, usize, &str), usize> = HashMap::new();
    let said = said_of_peers(nodes, joined);
    let of_check = nodes
        .iter()
        .enumerate()
        .flat_map(|(place, node)| node.findings.iter().map(move |finding| (place, finding)))
        .filter(|(place, finding)| {
            finding.cause != Cause::BlockRouteMissing
                || ![Some(*place), None].iter().any(|at| said.contains(&(*at, finding.subject.value.clone())))
        });
    for (place, finding) in of_check.chain(joined.iter().map(|(place, finding)| (*place, finding))) {
        let Some(node) = nodes.get(place) else { continue };
        let same = by_cause.entry(finding.cause).or_default();
        let at = *known.entry((finding.cause, place, &finding.subject.value)).or_insert(same.len());
        match same.get_mut(at) {
            Some(before) => add(&mut before.finding, finding),
            None => same.push(OfNode { node: node.name.clone(), finding: finding.clone(), place }),
        }
    }
    let mut groups: Vec<Group> =
        by_cause.into_iter().filter_map(|(cause, findings)| of(cause, findings, nodes.len())).collect();
    groups.sort_by_key(|group| {
        (Reverse(group.severity), group.certainty != Certainty::Proven, Reverse(group.nodes), group.cause)
    });
    groups
}

/// One node alone sees no more than that no route leads to a peer; next to that peer it is said of which block, by that
/// node, or by the peer for all of them.
fn said_of_peers(nodes: &[Node], joined: &[(usize, Finding)]) -> HashSet<(Option<usize>, String)> {
    let mut owners: HashMap<String, Vec<(usize, &Node)>> = HashMap::new();
    for (place, node) in nodes.iter().enumerate() {
        for block in &node.own_blocks {
            owners.entry(block.to_string()).or_default().push((place, node));
        }
    }
    let of_blocks = joined.iter().filter(|(_, finding)| finding.subject.kind == SubjectKind::Block);
    of_blocks
        .flat_map(|(place, finding)| {
            let owners = owners.get(&finding.subject.value).into_iter().flatten();
            owners.filter_map(move |(owner_place, owner)| {
                let is_its_own = owner_place == place && finding.cause == Cause::BlockRouteMissing;
                Some(((!is_its_own).then_some(*place), owner.address?.to_string()))
            })
        })
        .collect()
}

/// What others show of the same adds to what the node itself shows.
fn add(finding: &mut Finding, more: &Finding) {
    finding.severity = finding.severity.max(more.severity);
    if more.certainty == Certainty::Proven {
        finding.certainty = Certainty::Proven;
    }
    for evidence in &more.evidence {
        if !finding.evidence.contains(evidence) {
            finding.evidence.push(evidence.clone());
        }
    }
    if finding.fix.is_empty() {
        finding.fix.clone_from(&more.fix);
    }
}

fn of(cause: Cause, mut findings: Vec<OfNode>, of: usize) -> Option<Group> {
    findings.sort_by_key(|it| (Reverse(it.finding.severity), it.place));
    let severity = findings.iter().map(|it| it.finding.severity).max()?;
    let is_proven = findings.iter().any(|it| it.finding.certainty == Certainty::Proven);
    let mut places: Vec<usize> = findings.iter().map(|it| it.place).collect();
    places.sort_unstable();
    places.dedup();
    let certainty = if is_proven { Certainty::Proven } else { Certainty::Inferred };
    Some(Group { cause, severity, certainty, nodes: places.len(), of, findings })
}

impl Group {
    /// Names of its nodes, each once, the worst first.
    pub fn names(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        self.findings.iter().filter(|it| seen.insert(it.place)).map(|it| it.node.as_str()).collect()
    }
}
