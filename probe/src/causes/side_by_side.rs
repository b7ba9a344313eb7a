//! Several nodes of one cluster next to each other: what one says of another that the other does not bear out. Each
//! was looked at on its own, so what a moment may explain is inferred.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Cause, case::finding, routing::route_words};
use crate::{
    model::{LocalPod, Model, RemoteBlock},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::Part,
};

/// More nodes than people paste; each is held against each other.
const MOST_NODES: usize = 200;

/// What the others show to be wrong with each node, in the nodes' order.
pub fn judge(models: &[Model<'_>]) -> Vec<Vec<Finding>> {
    let judged = models.iter().take(MOST_NODES).map(|model| {
        let others =
            || models.iter().take(MOST_NODES).filter(|other| !std::ptr::eq(*other, model) && is_node(other));
        let mut findings: Vec<Finding> = Vec::new();
        for other in others().filter(|_| is_node(model)) {
            findings.extend(next_hops_that_are_pods(model, other));
            if is_other_node(model, other) {
                findings.extend(borrowed(model, other));
                findings.extend(unrouted(model, other));
                findings.extend(elsewhere(model, other));
            }
        }
        let mut seen = BTreeSet::new();
        findings.retain(|finding| seen.insert((finding.cause, finding.subject.value.clone())));
        findings
    });
    judged.collect()
}

fn is_node(model: &Model<'_>) -> bool {
    !model.is_inside_pod()
}

/// Looks at one place are no different nodes, and neither are two with one address or one block.
fn is_other_node(one: &Model<'_>, other: &Model<'_>) -> bool {
    let own = |model: &Model<'_>| -> BTreeSet<Ipv4Net> {
        model.own_blocks().iter().map(|block| block.destination).collect()
    };
    let differ = match (one.own_address(), other.own_address()) {
        (Some(one), Some(other)) => one != other,
        _ => true,
    };
    let place = |model: &Model<'_>| model.sample.node.pasted_from.clone();
    let differ = differ && (place(one) != place(other) || place(one).is_empty());
    let is_known = !one.own_blocks().is_empty() || !one.remote_blocks().is_empty();
    differ && is_known && own(one).is_disjoint(&own(other))
}

/// The tunnel's next hop is an address of a pod, whichever node it is on: pods decapsulate nothing.
fn next_hops_that_are_pods(model: &Model<'_>, other: &Model<'_>) -> Vec<Finding> {
    let hops = model.remote_blocks().iter().filter(|block| block.tunnelled);
    hops.filter_map(|block| {
        let next_hop = block.route.hops.iter().find_map(|hop| hop.gateway)?;
        let pod: LocalPod<'_> = other.pod(next_hop).filter(|_| !model.is_local_pod(next_hop))?;
        let destination = block.route.destination;
        let summary =
            format!("the next hop {next_hop} of block {destination} is a pod, which decapsulates nothing");
        Some(
            finding(Cause::TunnelLoop, SubjectKind::Peer, next_hop.to_string(), summary)
                .with(EvidenceSource::Route, route_words(model, block.route))
                .with(
                    EvidenceSource::Route,
                    format!("{}: {}", other.node_name(), route_words(other, pod.route)),
                )
                .confirm(model.node_name(), format!("ip route get {next_hop}")),
        )
    })
    .collect()
}

/// The other node has pods with addresses of this node's block, and no route leads there from here.
fn borrowed(model: &Model<'_>, other: &Model<'_>) -> Option<Finding> {
    let is_lost = |pod: &&LocalPod<'_>| {
        model.own_block(pod.address).is_some()
            && !model.is_local_pod(pod.address)
            && model.remote_block(pod.address).is_none_or(|block| block.route.destination.prefix_len() < 32)
    };
    let pod = other.pods().iter().find(is_lost)?;
    let block = model.own_block(pod.address)?;
    let summary = format!(
        "a pod of {} has {} of this node's block {}, and no route leads there",
        other.node_name(),
        pod.address,
        block.destination
    );
    Some(
        finding(Cause::BorrowedAddress, SubjectKind::Address, pod.address.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Route, route_words(model, block))
            .with(EvidenceSource::Route, format!("{}: {}", other.node_name(), route_words(other, pod.route)))
            .confirm(
                other.node_name(),
                format!("birdcl show route for {} all   # does it announce the /32?", pod.address),
            ),
    )
}

/// The other node's own blocks to which no route leads from here, though routes to others are shown.
fn unrouted(model: &Model<'_>, other: &Model<'_>) -> Vec<Finding> {
    let shows_others = !model.remote_blocks().is_empty() || model.sample.holds(Part::Routes);
    let own = other.own_blocks().iter().filter(|_| shows_others);
    own.filter(|block| !covers(model, block.destination))
        .map(|block| {
            let destination = block.destination;
            let summary = format!("no route leads to block {destination} of {}", other.node_name());
            finding(Cause::BlockRouteMissing, SubjectKind::Block, destination.to_string(), summary)
                .inferred()
                .with(EvidenceSource::Route, format!("{}: {}", other.node_name(), route_words(other, block)))
                .with(EvidenceSource::Route, "no row here covers it but the default route")
                .confirm(model.node_name(), "calicoctl node status   # is the session to that node up?")
        })
        .collect()
}

fn covers(model: &Model<'_>, block: Ipv4Net) -> bool {
    model
        .sample
        .routes
        .iter()
        .any(|route| route.destination.prefix_len() > 0 && route.destination.contains(&block))
}

/// Both lead to one block, by different nodes.
fn elsewhere(model: &Model<'_>, other: &Model<'_>) -> Vec<Finding> {
    model.remote_blocks().iter().filter_map(|block| conflict(model, other, block)).collect()
}

fn conflict(model: &Model<'_>, other: &Model<'_>, block: &RemoteBlock<'_>) -> Option<Finding> {
    let destination = block.route.destination;
    let here = single_hop(block)?;
    let same = other.remote_blocks().iter().find(|there| there.route.destination == destination)?;
    let there = single_hop(same)?;
    // Without the tunnel each may lead there by its own router.
    if here == there || !block.tunnelled || !same.tunnelled {
        return None;
    }
    let summary =
        format!("block {destination} leads to {here} from here, to {there} from {}", other.node_name());
    Some(
        finding(Cause::BlockOwnerConflict, SubjectKind::Block, destination.to_string(), summary)
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Route, route_words(model, block.route))
            .with(EvidenceSource::Route, format!("{}: {}", other.node_name(), route_words(other, same.route)))
            .confirm(
                "kubectl",
                format!(
                    "kubectl get blockaffinities.crd.projectcalico.org -o wide | grep {}",
                    destination.addr()
                ),
            ),
    )
}

fn single_hop(block: &RemoteBlock<'_>) -> Option<Ipv4Addr> {
    match block.route.hops.as_slice() {
        [hop] => hop.gateway,
        _ => None,
    }
}
