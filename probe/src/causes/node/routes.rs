//! The route table's own faults, and blocks that no route leads to.

use std::collections::BTreeMap;

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding, route_table},
    model::{
        Model, peers,
        rows::{self, Tables},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::Part,
};

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Routes);
    if !model.sample.holds(Part::Routes) {
        review.unseen("the routes", "they were not shown: ip route");
        return review;
    }
    let (rows, _) = rows::read(model, Tables::Main);
    review.found(no_other_block(model));
    review.found(unrouted_blocks(model));
    let of_tunnel = |finding: &Finding| matches!(finding.cause, Cause::TunnelDown | Cause::TunnelMissing);
    let faults = route_table::judge(model, &rows).into_iter().map(|fault| fault.finding);
    review.found(faults.filter(|finding| !of_tunnel(finding)));
    if review.findings.is_empty() {
        let remote = model.remote_blocks().len();
        review
            .pass(format!("{} pods here and {remote} blocks of other nodes are routed", model.pods().len()));
    }
    review
}

/// A node whose tunnel is up and leads nowhere has lost every block, unless it is the only one.
fn no_other_block(model: &Model<'_>) -> Option<Finding> {
    let sample = model.sample;
    let tunnel = model.tunnel().filter(|tunnel| tunnel.up && sample.holds(Part::LinkStates))?;
    if !model.remote_blocks().is_empty() {
        return None;
    }
    let others = peers::all(model);
    let is_alone =
        others.is_empty() && (sample.sets.hosts.known().is_some() || sample.bird.known().is_some());
    if is_alone {
        return None;
    }
    let summary = match others.len() {
        0 => "tunl0 is up, yet there is no route to any other block: all block routes are lost, or this is a cluster of one node".to_owned(),
        count => format!("tunl0 is up, yet there is no route to any block of the {count} other nodes"),
    };
    let mut found = finding(Cause::BlockRouteMissing, SubjectKind::Node, model.node_name(), summary)
        .inferred()
        .with_severity(Severity::Warning)
        .with(EvidenceSource::Link, format!("{} is up", tunnel.name))
        .with(EvidenceSource::Route, "no route leads through tunl0 to another node");
    if !others.is_empty() {
        let addresses: Vec<String> = others.iter().map(|peer| peer.words()).collect();
        found = found.with(EvidenceSource::Rule, format!("other nodes: {}", addresses.join(", ")));
    }
    Some(found.confirm(
        model.node_name(),
        "calicoctl node status   # peers: the block routes are lost; none: a cluster of one node",
    ))
}

/// Blocks of other nodes that the datastore names and no route leads to, by node.
fn unrouted_blocks(model: &Model<'_>) -> Vec<Finding> {
    let Some(datastore) = model.sample.datastore.known() else { return Vec::new() };
    let own = model.node_name();
    let mut lost = BTreeMap::new();
    for peer in peers::all(model) {
        let Some(name) = peer.name.filter(|name| *name != own) else { continue };
        let blocks = peers::lost_blocks(model, peer.address).unwrap_or_default();
        let confirmed = |block: &ipnet::Ipv4Net| {
            let mut affinities = datastore.affinities.iter();
            affinities.any(|affinity| affinity.block == *block && affinity.state == "confirmed")
        };
        let blocks: Vec<String> =
            blocks.iter().filter(|block| confirmed(block)).map(ToString::to_string).collect();
        if !blocks.is_empty() {
            lost.insert(name.to_owned(), (peer.words(), blocks));
        }
    }
    lost.into_values()
        .map(|(node, blocks)| {
            let summary = format!(
                "no route leads to {} of node {node}: {}",
                count_blocks(blocks.len()),
                blocks.join(", ")
            );
            let subject = blocks.first().cloned().unwrap_or_default();
            let found = finding(Cause::BlockRouteMissing, SubjectKind::Block, subject, summary);
            blocks
                .iter()
                .fold(found, |found, block| {
                    found
                        .with(EvidenceSource::Route, format!("no route to {block}"))
                        .with(EvidenceSource::File, format!("the datastore gives {block} to {node}"))
                })
                .confirm(model.node_name(), "calicoctl node status")
        })
        .collect()
}

fn count_blocks(count: usize) -> String {
    if count == 1 { "1 block".to_owned() } else { format!("{count} blocks") }
}
