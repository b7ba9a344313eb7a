//! Whose each block is, by its owner and by those that lead to it.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{
    Cluster, Node, list,
    node::{Way, around},
};
use crate::{
    causes::{Cause, case::finding},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
};

/// Of one node, as many as a person reads.
const MOST_ALIKE: usize = 20;

/// Nodes by the next hops that they have for one block.
type Views<'a> = BTreeMap<&'a [Ipv4Addr], Vec<(usize, &'a Node)>>;

pub fn judge(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let mut found = owned_twice(cluster);
    for (place, node) in &cluster.nodes {
        let mut astray: Vec<Finding> = Vec::new();
        for (block, way) in led_to(node) {
            if let Some((_, owner)) = cluster.owner(*block).filter(|(owner, _)| owner != place) {
                astray.extend(leads_astray(cluster, node, *block, way, owner));
            }
        }
        astray.sort_by(|one, other| one.subject.value.cmp(&other.subject.value));
        astray.truncate(MOST_ALIKE);
        found.extend(astray.into_iter().map(|finding| (*place, finding)));
    }
    found.extend(disagreement(cluster));
    found
}

/// Ways through the tunnel to blocks: a single address may be lent to a pod of another node, and without a tunnel a
/// router may stand for the node.
fn led_to(node: &Node) -> impl Iterator<Item = (&Ipv4Net, &Way)> {
    node.ways.iter().filter(|(block, way)| block.prefix_len() < 32 && way.tunnelled)
}

fn own_words(node: &Node, block: Ipv4Net) -> String {
    format!("{}: blackhole {block}, a block of its own with {} pods", node.name, node.pods_within(block))
}

fn way_words(node: &Node, block: Ipv4Net, way: &Way) -> String {
    let gateways: Vec<String> = way.gateways.iter().map(Ipv4Addr::to_string).collect();
    format!("{}: {block} via {} dev tunl0", node.name, gateways.join(", "))
}

fn affinity(block: Ipv4Net) -> String {
    format!("kubectl get blockaffinities.crd.projectcalico.org -o wide | grep {}", block.addr())
}

/// One block of two nodes, or a block within another node's.
fn owned_twice(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let mut found = Vec::new();
    for (place, node) in &cluster.nodes {
        for block in &node.own_blocks {
            let others = around(*block).find_map(|network| {
                let others = cluster.owners.get(&network)?.iter().find(|other| *other != place)?;
                Some((network, *others))
            });
            let Some((network, (other_place, other))) =
                others.and_then(|(network, other)| Some((network, (other, cluster.node(other)?))))
            else {
                continue;
            };
            let summary = if network == *block {
                format!("block {block} is a block of {} and of {}", node.name, other.name)
            } else {
                format!("block {block} of {} lies in block {network} of {}", node.name, other.name)
            };
            let conflict = |at: &Node| {
                finding(Cause::BlockOwnerConflict, SubjectKind::Block, block.to_string(), &summary)
                    .with(EvidenceSource::Route, own_words(node, *block))
                    .with(EvidenceSource::Route, own_words(other, network))
                    .between(node, other)
                    .confirm("kubectl", affinity(*block))
                    .confirm(&at.name, "calicoctl ipam check")
            };
            found.push((*place, conflict(node)));
            if network != *block {
                found.push((other_place, conflict(other)));
            }
        }
    }
    found
}

/// The block's owner is among the nodes, and the tunnel leads to another machine.
fn leads_astray(
    cluster: &Cluster<'_>,
    node: &Node,
    block: Ipv4Net,
    way: &Way,
    owner: &Node,
) -> Option<Finding> {
    // Without the owner's addresses nobody knows which it has.
    owner.address?;
    let astray = *way.gateways.iter().find(|gateway| !owner.addresses.contains(gateway))?;
    let stranger = cluster.at(astray).map(|(_, stranger)| stranger);
    let (cause, whose) = match stranger {
        Some(stranger) => (Cause::BlockOwnerConflict, stranger.words()),
        None => (Cause::StaleTunnelRoute, astray.to_string()),
    };
    let summary = format!("block {block} of {} leads to {whose} instead", owner.name);
    Some(
        finding(cause, SubjectKind::Block, block.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Route, way_words(node, block, way))
            .with(EvidenceSource::Route, own_words(owner, block))
            .between(node, owner)
            .confirm(&node.name, format!("birdcl show route for {} all   # who announces it?", block.addr()))
            .confirm("kubectl", affinity(block)),
    )
}

/// The owner is not among the nodes, or shows no blackhole, and those that lead to its block do not agree.
fn disagreement(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let mut by_block: HashMap<Ipv4Net, Views<'_>> = HashMap::new();
    for (place, node) in &cluster.nodes {
        for (block, way) in led_to(node).filter(|(block, _)| !cluster.owners.contains_key(*block)) {
            by_block.entry(*block).or_default().entry(&way.gateways).or_default().push((*place, node));
        }
    }
    let mut blocks: Vec<_> = by_block.into_iter().filter(|(_, views)| views.len() > 1).collect();
    blocks.sort_by_key(|(block, _)| *block);
    let mut found = Vec::new();
    for (block, views) in blocks {
        let most = views.values().map(Vec::len).max().unwrap_or_default();
        let is_alone = views.values().filter(|nodes| nodes.len() == most).count() == 1;
        for (gateways, nodes) in &views {
            if is_alone && nodes.len() == most {
                continue;
            }
            let Some((others, against)) =
                views.iter().find(|(other, nodes)| *other != gateways && (nodes.len() == most || !is_alone))
            else {
                continue;
            };
            for (place, node) in nodes {
                found.extend(differs(block, (node, gateways), (against, others)).map(|it| (*place, it)));
            }
        }
    }
    found
}

/// One node's way to a block, and that of others.
fn differs(
    block: Ipv4Net,
    (node, gateways): (&Node, &[Ipv4Addr]),
    (against, others): (&[(usize, &Node)], &[Ipv4Addr]),
) -> Option<Finding> {
    let (_, other) = against.first()?;
    let words = |gateways: &[Ipv4Addr]| list(&gateways.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>());
    let names: Vec<&str> = against.iter().map(|(_, node)| node.name.as_str()).collect();
    let summary = format!(
        "block {block} leads to {} from here, to {} from {}",
        words(gateways),
        words(others),
        list(&names)
    );
    let evidence = |node: &Node, gateways: &[Ipv4Addr]| {
        format!("{}: {block} via {} dev tunl0", node.name, words(gateways))
    };
    Some(
        finding(Cause::BlockOwnerConflict, SubjectKind::Block, block.to_string(), summary)
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Route, evidence(node, gateways))
            .with(EvidenceSource::Route, evidence(other, others))
            .between(node, other)
            .confirm("kubectl", affinity(block)),
    )
}
