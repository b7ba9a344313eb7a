//! Blocks of every other node by way of one router: BIRD took the way to the nodes for the nodes.

use std::collections::BTreeSet;

use super::Fault;
use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model, Way,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Severity, SubjectKind},
    sample::{Hop, PeerKind},
};

/// As many blocks as one node seldom has, where nothing else says that their next hop is a router.
const MANY: usize = 3;

/// All blocks of others bare, by the same next hop. Where that is a BGP peer itself, it is a router that announces
/// them, as between racks.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Option<Fault> {
    let remote = || {
        let taken = rows.iter().enumerate().filter(|(_, row)| row.is_taken());
        taken.filter(|(_, row)| matches!(row.role, Role::RemoteBlock { .. }))
    };
    if remote().any(|(_, row)| matches!(row.role, Role::RemoteBlock { way: Way::Tunnel, .. })) {
        return None;
    }
    let hops: BTreeSet<String> = remote().flat_map(|(_, row)| &row.route.hops).map(next_hop_words).collect();
    let only = hops.first().filter(|words| hops.len() == 1 && !words.is_empty())?;
    let (_, first) = remote().next()?;
    let blocks = remote().count();
    let is_default = default_words(model).as_ref() == Some(only);
    let looks_like_a_router = blocks >= MANY && (only.ends_with(".1") || only.ends_with(".254"));
    if blocks < 2 || !(is_default || looks_like_a_router) || is_announcer(model, only) {
        return None;
    }
    let whose = if is_default { "this node's default gateway" } else { "by its number a router" };
    let summary = format!("the next hop of all {blocks} blocks of other nodes is {only}, {whose}");
    let finding = finding(Cause::NextHopNotANode, SubjectKind::Peer, only, summary)
        .inferred()
        .with_severity(Severity::Warning)
        .with(EvidenceSource::Route, route_words(model, first.route))
        .with(EvidenceSource::Route, format!("{blocks} blocks lead by {only}, none by another node"))
        .confirm("kubectl", "kubectl get nodes -o wide   # has one node this address, and all these blocks?")
        .confirm(model.node_name(), "calicoctl node status; birdcl show route   # is it a peer? via which device do the others answer?")
        .cure(
            "kubectl",
            format!("kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}   # BIRD resolves its next hops anew", model.node_name()),
        );
    Some(Fault { finding, rows: remote().map(|(place, _)| place).collect() })
}

fn next_hop_words(hop: &Hop) -> String {
    let gateway = hop.gateway.map(|gateway| gateway.to_string());
    gateway.or_else(|| hop.masked_gateway.clone()).unwrap_or_default()
}

fn default_words(model: &Model<'_>) -> Option<String> {
    Some(next_hop_words(model.tables.default_route()?.hops.first()?))
}

/// Whether the next hop itself is known as a node or a peer that is no node.
fn is_announcer(model: &Model<'_>, words: &str) -> bool {
    let Ok(address) = words.parse() else { return false };
    let sessions = model.sample.bird.known().map_or(&[][..], |bird| bird.sessions.as_slice());
    let is_peer = sessions.iter().any(|session| session.peer == address);
    // Route reflectors hand on what others announce, with those for next hops.
    let has_other_kinds = sessions.iter().any(|session| session.kind != PeerKind::NodeToNodeMesh);
    is_peer || has_other_kinds || model.is_node(address)
}
