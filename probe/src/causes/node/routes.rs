//! The route table's own faults, and blocks that no route leads to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{Review, Topic, flapping};
use crate::{
    causes::{Cause, case::finding, route_table, routing::route_words},
    model::{
        Model, peers,
        rows::{self, Tables},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Link, Part, PeerKind},
};

/// More than a person reads of one node.
const MOST_FINDINGS: usize = 200;

/// Devices by which other pod networks, and Calico's VXLAN, reach pods of other nodes.
const OVERLAYS: [&str; 5] = ["vxlan.calico", "wireguard.cali", "flannel", "weave", "cilium"];

/// Judges the routes; what other nodes show to be wrong with them is put to it where it is new.
pub fn review(model: &Model<'_>, of_others: Vec<Finding>) -> Review {
    let mut review = Review::of(Topic::Routes);
    if let Some(why) = model.sample.missing.get(&Part::Routes) {
        let what = if model.sample.routes.is_empty() { "the routes" } else { "every route" };
        review.unseen(what, why);
        if model.sample.routes.is_empty() {
            return review;
        }
    }
    let (rows, _) = rows::read(model, Tables::Main);
    if let Some(watch) = model.sample.route_watch.known() {
        review.found(flapping::judge(model, watch));
    }
    review.found(no_other_block(model));
    review.found(peers_without_block(model));
    review.found(unrouted_blocks(model));
    let of_tunnel = |finding: &Finding| matches!(finding.cause, Cause::TunnelDown | Cause::TunnelMissing);
    let faults = route_table::judge(model, &rows).into_iter().map(|fault| fault.finding);
    review.found(faults.filter(|finding| !of_tunnel(finding)));
    let known: Vec<Finding> = review.findings.clone();
    let is_new = |finding: &Finding| {
        !known.iter().any(|known| known.cause == finding.cause && known.subject == finding.subject)
    };
    review.found(of_others.into_iter().filter(is_new));
    let unexplained = route_table::unexplained_pod_links(model);
    // What is suspected first deserves a word where something is wrong.
    if !review.findings.is_empty() || !unexplained.is_empty() {
        review.found(route_table::idle_bridges(model, &rows));
    }
    review.found(unexplained);
    if review.findings.len() > MOST_FINDINGS {
        let more = review.findings.len() - MOST_FINDINGS;
        review.findings.truncate(MOST_FINDINGS);
        review.unseen(
            format!("{more} more faults of routes"),
            "a person reads no more than these: caliprobe routes",
        );
    }
    if review.findings.is_empty() && !model.sample.routes.is_empty() {
        let remote = model.remote_blocks().len();
        review
            .pass(format!("{} pods here and {remote} blocks of other nodes are routed", model.pods().len()));
    }
    review
}

/// A node whose tunnel is up and leads nowhere has lost every block, unless it is the only one.
fn no_other_block(model: &Model<'_>) -> Option<Finding> {
    let sample = model.sample;
    if !model.remote_blocks().is_empty() || !sample.holds(Part::Routes) || leads_elsewhere(model) {
        return None;
    }
    let tunnel = model.tunnel().filter(|tunnel| tunnel.up && is_shown(model, tunnel));
    if tunnel.is_none() && model.own_blocks().is_empty() {
        return None;
    }
    let others = peers::all(model);
    let is_alone =
        others.is_empty() && (sample.sets.hosts.known().is_some() || sample.bird.known().is_some());
    if is_alone {
        return None;
    }
    let begin = if tunnel.is_some() { "tunl0 is up, yet" } else { "this node has a block of its own, yet" };
    let summary = match others.len() {
        0 => format!(
            "{begin} there is no route to any other block: all block routes are lost, or this is a cluster of one node"
        ),
        count => format!("{begin} there is no route to any block of the {count} other nodes"),
    };
    let mut found = finding(Cause::BlockRouteMissing, SubjectKind::Node, model.node_name(), summary)
        .inferred()
        .with_severity(Severity::Warning);
    if let Some(tunnel) = tunnel {
        let address = sample.addresses.iter().find(|own| own.link == tunnel.index);
        let with = address.map_or_else(String::new, |own| format!(", with {}", own.address));
        found = found.with(EvidenceSource::Link, format!("{} is up{with}", tunnel.name));
    }
    for block in model.own_blocks().iter().take(3) {
        found = found.with(EvidenceSource::Route, route_words(model, block));
    }
    let mut found = found.with(EvidenceSource::Route, "no route leads to another node's pods");
    if !others.is_empty() {
        let addresses: Vec<String> = others.iter().map(peers::Peer::words).collect();
        found = found.with(EvidenceSource::Rule, format!("other nodes: {}", addresses.join(", ")));
    }
    Some(found.confirm(
        model.node_name(),
        "calicoctl node status   # peers: the block routes are lost; none: a cluster of one node",
    ))
}

/// With IPIP every node has a block, if only for its tunnel's address; one that announces nothing, or whose routes are
/// not in the kernel, has none here. Where BIRD's own table is known, that is compared with the kernel's instead.
fn peers_without_block(model: &Model<'_>) -> Option<Finding> {
    let bird = model.sample.bird.known().filter(|bird| bird.routes.known().is_none())?;
    let mut remote = model.remote_blocks().iter();
    if !model.sample.holds(Part::Routes) || !remote.any(|block| block.tunnelled) {
        return None;
    }
    let routed: BTreeSet<Ipv4Addr> = model
        .remote_blocks()
        .iter()
        .flat_map(|block| &block.route.hops)
        .filter_map(|hop| hop.gateway)
        .collect();
    let is_mesh = bird.sessions.iter().all(|session| session.kind == PeerKind::NodeToNodeMesh);
    let silent =
        bird.sessions.iter().filter(|session| session.established && !routed.contains(&session.peer));
    let silent: Vec<String> =
        silent.filter(|session| !model.is_local(session.peer)).map(|it| it.peer.to_string()).collect();
    let first = silent.first().filter(|_| is_mesh)?;
    let summary = format!(
        "no block route leads to {}, though the BGP session is Established: it announces none, or the kernel has not taken it",
        silent.join(", ")
    );
    Some(
        finding(Cause::BlockRouteMissing, SubjectKind::Peer, first, summary)
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Bird, format!("Established with {}", silent.join(", ")))
            .with(EvidenceSource::Route, "every other peer's block has a route through tunl0")
            .confirm(
                model.node_name(),
                "birdcl show route   # does BIRD have it? then the kernel refused it (route-not-installed)",
            ),
    )
}

/// Whether an output lists the device with its state, rather than a route that it is named in.
fn is_shown(model: &Model<'_>, tunnel: &Link) -> bool {
    model.sample.holds(Part::LinkStates) || model.sample.addresses.iter().any(|own| own.link == tunnel.index)
}

/// Whether pods of other nodes are reached by another overlay.
fn leads_elsewhere(model: &Model<'_>) -> bool {
    let links = model.sample.links.iter();
    links.filter(|link| OVERLAYS.iter().any(|prefix| link.name.starts_with(prefix))).any(|link| {
        let mut routes = model.sample.routes.iter();
        routes.any(|route| route.hops.iter().any(|hop| hop.link == Some(link.index) && hop.has_gateway()))
    })
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
