//! Whether each node leads to the blocks of each other one.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::{Cluster, MOST_NAMED, Node, list};
use crate::{
    causes::{Cause, case::finding},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
};

/// Of one node, as many as a person reads.
const MOST_ALIKE: usize = 20;

/// A block, the place of its owner, and the owner.
type Owned<'a> = (Ipv4Net, usize, &'a Node);

pub fn judge(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let lookers: Vec<(usize, &Node)> =
        cluster.nodes.iter().filter(|(_, node)| tells(node)).copied().collect();
    let mut found = Vec::new();
    let mut lost: BTreeMap<usize, Vec<Owned<'_>>> = BTreeMap::new();
    for (owner_place, owner) in &cluster.nodes {
        for block in owner.own_blocks.iter().filter(|block| cluster.owner(**block).is_some()) {
            let others = || lookers.iter().filter(|(place, _)| place != owner_place);
            let without: Vec<usize> =
                others().filter(|(_, node)| !node.covers(*block)).map(|(place, _)| *place).collect();
            if without.len() > 1 && without.len() == others().count() {
                found.extend(
                    unrouted(cluster, owner, *block, &without).map(|finding| (*owner_place, finding)),
                );
                continue;
            }
            for place in without {
                lost.entry(place).or_default().push((*block, *owner_place, owner));
            }
        }
    }
    for (place, blocks) in lost {
        if let Some(node) = cluster.node(place) {
            found.extend(missing(node, &blocks).into_iter().map(|finding| (place, finding)));
        }
    }
    found
}

/// Whether a row that is missing here is missed: the whole table was shown, and others' blocks belong into it. A node
/// without a tunnel may send everything to its routers.
fn tells(node: &Node) -> bool {
    node.holds_routes && node.needs_tunnel
}

/// Nobody leads to a block of this node.
fn unrouted(cluster: &Cluster<'_>, owner: &Node, block: Ipv4Net, without: &[usize]) -> Option<Finding> {
    let others: Vec<&Node> = without.iter().filter_map(|place| cluster.node(*place)).collect();
    let names: Vec<&str> = others.iter().map(|node| node.name.as_str()).collect();
    let summary = format!("no other node has a route to block {block} of {}", owner.name);
    let found = missing_route(block, owner, summary)
        .with(EvidenceSource::Route, format!("no row covers it on {}", list(&names)))
        .between(owner, others.first()?)
        .confirm(
            &owner.name,
            format!("birdcl show route {block} all; birdcl show protocols   # is it announced?"),
        );
    Some(found)
}

/// What this node does not lead to, though others do.
fn missing(node: &Node, blocks: &[Owned<'_>]) -> Vec<Finding> {
    let mut by_owner: BTreeMap<usize, Vec<&Owned<'_>>> = BTreeMap::new();
    for owned in blocks {
        by_owner.entry(owned.1).or_default().push(owned);
    }
    if by_owner.len() > MOST_ALIKE {
        return vec![cut_off(node, blocks, by_owner.len())].into_iter().flatten().collect();
    }
    by_owner.values().filter_map(|blocks| one_way(node, blocks)).collect()
}

fn one_way(node: &Node, blocks: &[&Owned<'_>]) -> Option<Finding> {
    let (block, _, owner) = blocks.first()?;
    let what = match blocks.len() {
        1 => format!("block {block}"),
        several => format!("{several} blocks"),
    };
    let back = node.own_blocks.first().filter(|_| owner.holds_routes).map(|own| (own, owner.covers(*own)));
    let ways = match back {
        Some((_, true)) => ", which leads here: only one way is there",
        Some((_, false)) => ", which has none back either",
        None => "",
    };
    let summary = format!("no route to {what} of {}{ways}", owner.name);
    let mut found = missing_route(*block, owner, summary)
        .with(EvidenceSource::Route, format!("{}: no row covers {block}", node.name));
    if let Some((own, true)) = back {
        let way = owner.ways.get(own).map_or_else(String::new, |way| {
            let gateways: Vec<String> = way.gateways.iter().map(ToString::to_string).collect();
            format!(" via {}", gateways.join(", "))
        });
        found = found.with(EvidenceSource::Route, format!("{}: {own}{way}", owner.name));
    }
    let peer = owner.address.map_or_else(|| owner.name.clone(), |address| address.to_string());
    if let Some(session) = owner.address.and_then(|address| node.sessions.as_ref()?.get(&address)) {
        let words = format!("{}: the session to {peer} is {}", node.name, session.state);
        found = found.with(EvidenceSource::Bird, words);
    }
    Some(found.between(node, owner).confirm(
        &node.name,
        format!("birdcl show route for {} all; birdcl show protocols   # the one to {peer}", block.addr()),
    ))
}

/// So much is missing that it is this node's own fault.
fn cut_off(node: &Node, blocks: &[Owned<'_>], owners: usize) -> Option<Finding> {
    let (first, _, owner) = blocks.first()?;
    let summary = format!("no route to {} blocks of {owners} other nodes", blocks.len());
    let shown: Vec<String> = blocks
        .iter()
        .take(MOST_NAMED + 1)
        .map(|(block, _, owner)| format!("{block} of {}", owner.name))
        .collect();
    Some(
        finding(Cause::BlockRouteMissing, SubjectKind::Block, first.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Route, format!("{}: no row covers {}", node.name, list(&shown)))
            .between(node, owner)
            .confirm(
                &node.name,
                "birdcl show protocols; birdcl show route count   # is BIRD there, are its sessions up?",
            ),
    )
}

fn missing_route(block: Ipv4Net, owner: &Node, summary: String) -> Finding {
    let pods = owner.pods_within(block);
    let found =
        finding(Cause::BlockRouteMissing, SubjectKind::Block, block.to_string(), summary).inferred().with(
            EvidenceSource::Route,
            format!("{}: blackhole {block}, a block of its own with {pods} pods", owner.name),
        );
    if pods == 0 { found.with_severity(Severity::Warning) } else { found }
}
