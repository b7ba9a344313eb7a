//! The nodes that block routes lead to: whether they are nodes, and whether the tunnel's own packets find them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::Fault;
use crate::{
    causes::{
        Cause,
        addresses::{is_public, of_any_machine},
        case::finding,
        routing::route_words,
    },
    model::{
        Model, Way,
        peers::is_vouched_for,
        routing::{Decision, Flow, look_up},
        rows::{Role, Row, is_bridge_name},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Hop, NeighbourState, Part, Route, RouteKind},
};

/// Judges each next hop once, whatever number of rows lead to it.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let mut by_next_hop: BTreeMap<Ipv4Addr, Vec<usize>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        match &row.role {
            Role::RemoteBlock { next_hops, way: Way::Tunnel }
            | Role::RemoteAddress { next_hops, way: Way::Tunnel, .. } => {
                for next_hop in next_hops {
                    by_next_hop.entry(*next_hop).or_default().push(place);
                }
            }
            Role::RemoteBlock { way: Way::Bare, .. } | Role::RemoteAddress { way: Way::Bare, .. } => {
                faults.extend(bare_without_carrier(model, row).map(|finding| Fault::of_row(place, finding)));
            }
            Role::TunnelWithoutNextHop => {
                faults.extend(without_next_hop(model, row).map(|finding| Fault::of_row(place, finding)));
            }
            _ => {}
        }
    }
    let networks: Vec<&Row<'_>> = rows.iter().filter(|row| is_connected(row)).collect();
    for (next_hop, places) in by_next_hop {
        let blocks = places.iter().filter_map(|place| rows.get(*place)).map(|row| row.route.destination);
        let blocks = block_words(&blocks.collect::<Vec<_>>());
        let found = on_a_bridge(model, &networks, next_hop, &blocks)
            .or_else(|| loops(model, next_hop, &blocks))
            .or_else(|| unreachable(model, next_hop, &blocks))
            .or_else(|| not_a_node(model, next_hop, &blocks))
            .or_else(|| is_of_no_node(model, next_hop, &blocks))
            .or_else(|| is_default_gateway(model, next_hop, &blocks))
            .or_else(|| silent(model, next_hop, &blocks));
        faults.extend(found.map(|finding| Fault { finding, rows: places }));
    }
    faults
}

/// Networks of this node's devices.
fn is_connected(row: &Row<'_>) -> bool {
    let is_network = matches!(
        row.role,
        Role::NodeNetwork
            | Role::ConnectedNetwork
            | Role::DockerNetwork
            | Role::LibvirtNetwork
            | Role::BridgeNetwork
    );
    is_network && row.is_taken()
}

/// Bridges of Docker and of virtual machines end on this node: whoever is registered by an address there is another
/// node with such a bridge of its own.
fn on_a_bridge(
    model: &Model<'_>,
    networks: &[&Row<'_>],
    next_hop: Ipv4Addr,
    blocks: &str,
) -> Option<Finding> {
    let around = networks.iter().filter(|row| row.route.destination.contains(&next_hop));
    let closest = around.max_by_key(|row| row.route.destination.prefix_len())?;
    let device = closest.route.hops.first()?.link.and_then(|link| model.link(link))?;
    if !is_bridge_name(&device.name) {
        return None;
    }
    let summary = format!(
        "the next hop {next_hop} of {blocks} lies in the network of {}: that node is registered by a bridge's address",
        device.name
    );
    Some(
        finding(Cause::NodeAddressWrong, SubjectKind::Address, next_hop.to_string(), summary)
            .with(EvidenceSource::Route, route_words(model, closest.route))
            .confirm("kubectl", format!("kubectl get nodes -o yaml | grep -e 'projectcalico.org/IPv4Address: {next_hop}' -e 'address: '"))
            .cure("kubectl", "kubectl -n kube-system set env daemonset/calico-node IP_AUTODETECTION_METHOD=can-reach=ADDRESS-OF-ANOTHER-NODE   # restarts calico-node on every node"),
    )
}

/// `block A`, or `3 blocks`.
fn block_words(blocks: &[Ipv4Net]) -> String {
    match blocks {
        [one] => format!("block {one}"),
        several => format!("{} blocks", several.len()),
    }
}

/// The look-up that the tunnel makes for what it sends (`net/ipv4/ip_tunnel.c`): local output, mark 0.
fn outer(next_hop: Ipv4Addr) -> Flow {
    Flow { source: None, destination: next_hop, input_link: None, mark: 0, tos: 0 }
}

fn loops(model: &Model<'_>, next_hop: Ipv4Addr, blocks: &str) -> Option<Finding> {
    let (summary, evidence) = if model.is_local(next_hop) {
        let summary = format!("the next hop {next_hop} of {blocks} is this node itself");
        (summary, format!("{next_hop} is an address of this node"))
    } else if let Some(pod) = model.pod(next_hop) {
        let summary =
            format!("the next hop {next_hop} of {blocks} is a pod of this node, which decapsulates nothing");
        (summary, route_words(model, pod.route))
    } else if !model.sample.holds(Part::Routes) {
        return None;
    } else {
        let Decision::Route { route, .. } = look_up(model, &outer(next_hop)) else { return None };
        if !model.uses_tunnel(route) {
            return None;
        }
        let summary = format!("the route to node {next_hop}, next hop of {blocks}, leads into tunl0 again");
        (summary, route_words(model, route))
    };
    let finding = finding(Cause::TunnelLoop, SubjectKind::Peer, next_hop.to_string(), summary)
        .with(EvidenceSource::Route, evidence)
        .confirm(model.node_name(), format!("ip route get {next_hop}"));
    Some(finding)
}

fn unreachable(model: &Model<'_>, next_hop: Ipv4Addr, blocks: &str) -> Option<Finding> {
    let (problem, evidence) = match look_up(model, &outer(next_hop)) {
        Decision::NoRoute if !model.sample.holds(Part::Routes) => return None,
        Decision::NoRoute => ("no route leads to", format!("no route of this node covers {next_hop}")),
        Decision::Route { route, .. } if refuses(route.kind) => {
            ("a route refuses", route_words(model, route))
        }
        Decision::Route { route, hops } if all_without_carrier(model, &hops) => {
            ("no device with a carrier leads to", route_words(model, route))
        }
        _ => return None,
    };
    let summary = format!("{problem} node {next_hop}, the next hop of {blocks}");
    let finding = finding(Cause::UnderlayRouteMissing, SubjectKind::Peer, next_hop.to_string(), summary)
        .with(EvidenceSource::Route, evidence)
        .confirm(model.node_name(), format!("ip route get {next_hop}; ip -brief link"));
    Some(finding)
}

fn refuses(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit)
}

fn all_without_carrier(model: &Model<'_>, hops: &[&Hop]) -> bool {
    let has_none = |hop: &&Hop| hop.link.and_then(|link| model.link(link)).is_some_and(|link| !link.carrier);
    !hops.is_empty() && hops.iter().all(has_none)
}

/// Where Felix' set of all nodes is known, it decides. It may be older than the routes, so it proves nothing alone.
pub fn not_a_node(model: &Model<'_>, next_hop: Ipv4Addr, blocks: &str) -> Option<Finding> {
    let hosts = model.sample.sets.hosts.known().filter(|hosts| !hosts.is_empty())?;
    if hosts.iter().any(|host| host.contains(&next_hop)) || is_vouched_for(model, next_hop) {
        return None;
    }
    let summary = format!("the next hop {next_hop} of {blocks} is no Calico node");
    let found = finding(Cause::NextHopNotANode, SubjectKind::Peer, next_hop.to_string(), summary).with(
        EvidenceSource::Rule,
        format!("cali40all-hosts-net names {} nodes, not {next_hop}", hosts.len()),
    );
    let found = match router(model, next_hop) {
        Some(words) => found.with(EvidenceSource::Route, format!("it is a router: {words}")),
        None => found.inferred().with_severity(Severity::Warning),
    };
    Some(
        found
            .confirm("kubectl", "kubectl get nodes -o wide   # is there a node with this address?")
            .confirm(model.node_name(), "calicoctl node status   # which peer announces the block?"),
    )
}

/// By the number alone: what every machine has, or a public address where this node's own is private.
fn is_of_no_node(model: &Model<'_>, next_hop: Ipv4Addr, blocks: &str) -> Option<Finding> {
    let own = model.own_address();
    let why = match of_any_machine(next_hop) {
        Some(whose) => whose.to_owned(),
        None if is_public(next_hop) && own.is_some_and(|own| !is_public(own)) => {
            format!("a public address, this node's own is {}", own?)
        }
        None => return None,
    };
    let sessions = model.sample.bird.known().map_or(&[][..], |bird| bird.sessions.as_slice());
    if sessions.iter().any(|session| session.peer == next_hop && session.established) {
        return None;
    }
    let summary = format!("the next hop {next_hop} of {blocks} is {why}: that node seems registered by it");
    Some(
        finding(Cause::NodeAddressWrong, SubjectKind::Address, next_hop.to_string(), summary)
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Route, format!("{blocks} by way of {next_hop}"))
            .confirm("kubectl", format!("kubectl get nodes -o yaml | grep -e 'projectcalico.org/IPv4Address: {next_hop}' -e 'address: '")),
    )
}

/// Without that set: what the tunnel sends to the default router goes to a machine that routes, and no pod lives on.
fn is_default_gateway(model: &Model<'_>, next_hop: Ipv4Addr, blocks: &str) -> Option<Finding> {
    let is_listed = model.sample.sets.hosts.known().is_some_and(|hosts| !hosts.is_empty());
    let sessions = model.sample.bird.known().map_or(&[][..], |bird| bird.sessions.as_slice());
    if is_listed || model.default_gateway() != Some(next_hop) || sessions.iter().any(|it| it.peer == next_hop)
    {
        return None;
    }
    let summary = format!("the next hop {next_hop} of {blocks} is this node's default gateway");
    Some(
        finding(Cause::NextHopNotANode, SubjectKind::Peer, next_hop.to_string(), summary)
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Route, format!("the default route leads by {next_hop}"))
            .confirm("kubectl", "kubectl get nodes -o wide   # is there a node with this address?")
            .confirm(model.node_name(), "calicoctl node status   # which peer announces the block?"),
    )
}

/// The node's own neighbour entry says that nobody answers for the next hop.
fn silent(model: &Model<'_>, next_hop: Ipv4Addr, blocks: &str) -> Option<Finding> {
    let entries = || model.sample.neighbours.iter().filter(|entry| entry.address == next_hop);
    let failed = entries().find(|entry| entry.state == NeighbourState::Failed)?;
    let answers = entries().any(|entry| entry.hardware_address.is_some());
    let sessions = model.sample.bird.known().map_or(&[][..], |bird| bird.sessions.as_slice());
    if answers || sessions.iter().any(|session| session.peer == next_hop && session.established) {
        return None;
    }
    let device = model.link(failed.link).map_or("a device", |link| link.name.as_str());
    let summary = format!("the next hop {next_hop} of {blocks} does not answer ARP");
    Some(
        finding(Cause::StaleTunnelRoute, SubjectKind::Peer, next_hop.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Neighbour, format!("{next_hop} dev {device} is failed"))
            .confirm(model.node_name(), format!("arping -c 3 -I {device} {next_hop}"))
            .confirm("kubectl", "kubectl get nodes -o wide   # is there still a node with this address?")
            .cure("kubectl", format!("calicoctl delete node NAME   # of {next_hop}, if that node is gone for good; its routes go with it")),
    )
}

/// A route outside the pod network that leads by an address.
pub fn router(model: &Model<'_>, address: Ipv4Addr) -> Option<String> {
    let mut others = model.sample.routes.iter().filter(|route| model.way_to_remote_pods(route).is_none());
    let route = others.find(|route| route.hops.iter().any(|hop| hop.gateway == Some(address)))?;
    Some(route_words(model, route))
}

/// Without a next hop the tunnel takes the packet's own destination as the outer one, which leads into it again.
/// The kernel's own row for the network of an address on `tunl0` is only as good as the rows within it.
fn without_next_hop(model: &Model<'_>, row: &Row<'_>) -> Option<Finding> {
    const PROTOCOL_KERNEL: u8 = 2;
    (row.route.protocol != PROTOCOL_KERNEL && row.is_taken()).then(|| into_itself(model, row.route))
}

/// The finding of a route on `tunl0` that names no next hop.
pub fn into_itself(model: &Model<'_>, route: &Route) -> Finding {
    let destination = route.destination;
    let summary = format!("route {destination} leads into tunl0 without a next hop");
    finding(Cause::TunnelLoop, SubjectKind::Route, destination.to_string(), summary)
        .with(EvidenceSource::Route, route_words(model, route))
        .cure(model.node_name(), format!("ip route del {destination} dev tunl0"))
}

fn bare_without_carrier(model: &Model<'_>, row: &Row<'_>) -> Option<Finding> {
    let hops: Vec<&Hop> = row.route.hops.iter().collect();
    if row.shadowed || !all_without_carrier(model, &hops) {
        return None;
    }
    let destination = row.route.destination;
    let summary = format!("no device of the route to block {destination} has a carrier");
    let finding = finding(Cause::UnderlayRouteMissing, SubjectKind::Route, destination.to_string(), summary)
        .with(EvidenceSource::Route, route_words(model, row.route))
        .confirm(model.node_name(), "ip -brief link");
    Some(finding)
}
