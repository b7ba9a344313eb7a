//! Packets lost waiting for an ARP answer: from the next-hop node, from a pod, or on a device that should not
//! have had them.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, finding},
    drop_kind::{DropKind, met_full_neighbour_table},
    pod, queue,
    route_table::blocks,
    routing::{self, drop_evidence, neighbour_state, route_words},
    trail::DeviceRole,
};
use crate::{
    model::routing::{Decision, Flow, look_up},
    observation::DropSighting,
    report::document::{Direction, EvidenceSource, Stage, SubjectKind},
    sample::{Link, NeighbourState, Route},
};

/// Judges a drop by the neighbour layer.
pub fn failed(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Option<Located> {
    if met_full_neighbour_table(drop) {
        return Some(table_full(case, direction, drop));
    }
    let nothing_leaves = || queue::lets_nothing_out(case, direction, case.link(drop.link?)?);
    if let Some(located) = nothing_leaves() {
        return Some(located);
    }
    if let Some((_, node)) = drop.outer {
        return match DropKind::of(drop) {
            DropKind::Neighbour => next_hop_silent(case, direction, node, Some(drop)),
            // The device itself refused it.
            _ => None,
        };
    }
    let flow = routing::flow(case, direction, drop.mark)?;
    let Decision::Route { route, hops } = look_up(case.model, &flow) else { return None };
    let out = drop
        .link
        .filter(|link| hops.iter().any(|hop| hop.link == Some(*link)))
        .or_else(|| hops.first().and_then(|hop| hop.link))?;
    waited_in_vain(case, direction, flow.destination, route, case.link(out)?, Some(drop))
}

/// Judges a packet that came in and did not leave, by the state of the neighbour that it had to wait for.
pub fn unanswered(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let flow = routing::flow(case, direction, 0)?;
    let Decision::Route { route, hops } = look_up(case.model, &flow) else { return None };
    let hop = hops.first()?;
    let device = case.link(hop.link?)?;
    let silent = is_silent(case, device.index, hop.gateway.unwrap_or(flow.destination));
    (silent || !device.carrier).then_some(())?;
    if let Some(located) = queue::lets_nothing_out(case, direction, device) {
        return Some(located);
    }
    waited_in_vain(case, direction, flow.destination, route, device, None)
}

/// Judges a packet that entered `tunl0` and did not leave by a NIC, in the same way.
pub fn next_hop_unanswered(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let node = case.model.tunnel_next_hop(routing::flow(case, direction, 0)?.destination)?;
    let Decision::Route { hops, .. } = look_up(case.model, &outer_flow(node)) else { return None };
    let hop = hops.first()?;
    is_silent(case, hop.link?, hop.gateway.unwrap_or(node)).then_some(())?;
    queue::lets_nothing_out(case, direction, case.link(hop.link?)?)
        .or_else(|| next_hop_silent(case, direction, node, None))
}

/// Whether an address was asked for by ARP, and has not answered.
fn is_silent(case: &Case<'_>, link: u32, address: Ipv4Addr) -> bool {
    let state = neighbour_state(case, link, address);
    matches!(state, Some(NeighbourState::Failed | NeighbourState::Incomplete))
}

fn waited_in_vain(
    case: &Case<'_>,
    direction: Direction,
    destination: Ipv4Addr,
    route: &Route,
    device: &Link,
    drop: Option<&DropSighting>,
) -> Option<Located> {
    match DeviceRole::of(device) {
        DeviceRole::Pod => Some(pod::does_not_answer_arp(case, direction, destination, device, drop)),
        DeviceRole::Wire => {
            let pool = case.model.pool_of(destination)?;
            pool.cidr.contains(&route.destination).then_some(())?;
            let located = routing::wrong_route(case, direction, destination, route, device)?;
            let finding = located.finding.with_all(drop_evidence(case, drop));
            Some(Located { finding, ..located })
        }
        DeviceRole::Tunnel => None,
    }
}

/// The look-up of the encapsulated packet: local output, no input device, mark 0 (`net/ipv4/ip_tunnel.c`).
pub fn outer_flow(node: Ipv4Addr) -> Flow {
    Flow { source: None, destination: node, input_link: None, mark: 0, tos: 0 }
}

/// The table of neighbours, which all namespaces share, had no room for the next hop or the pod.
fn table_full(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Located {
    let mut found = finding(
        Cause::NeighbourTableFull,
        SubjectKind::Table,
        "arp_cache",
        "the neighbour table is full: pods and nodes that are new to it are not reached",
    )
    .with_all(drop_evidence(case, Some(drop)));
    let table = case.after.tables.neighbours.known();
    if let Some(table) = table {
        found = found.with(EvidenceSource::Counter, format!("{} neighbour entries", table.entries));
    }
    let limit = table.and_then(|table| table.limit);
    let twice = limit.unwrap_or(1024).max(512).saturating_mul(2);
    if let Some(limit) = limit {
        found = found.with(EvidenceSource::Sysctl, format!("net.ipv4.neigh.default.gc_thresh3 = {limit}"));
    }
    let finding = found
        .confirm(
            &case.node,
            "ip -s neigh show nud all | wc -l; lnstat -c 1 -f arp_cache -k table_fulls,entries",
        )
        .cure(
            &case.node,
            format!(
                "sysctl -w net.ipv4.neigh.default.gc_thresh3={twice} net.ipv4.neigh.default.gc_thresh2={}",
                twice / 2
            ),
        );
    let device = drop.link.map(|link| case.link_name(link));
    Located { finding, place: case.place(direction, Stage::Neighbour, device) }
}

/// The node that the tunnel sends to, or the router on the way to it, is silent.
fn next_hop_silent(
    case: &Case<'_>,
    direction: Direction,
    node: Ipv4Addr,
    drop: Option<&DropSighting>,
) -> Option<Located> {
    let Decision::Route { route, hops } = look_up(case.model, &outer_flow(node)) else { return None };
    let destination = routing::flow(case, direction, 0)?.destination;
    let hop = hops.first()?;
    let device = case.link(hop.link?)?;
    let asked = hop.gateway.unwrap_or(node);
    let block = case.block_of(destination);
    let evidence = drop_evidence(case, drop);
    let place = case.place(direction, Stage::Neighbour, Some(device.name.clone()));
    let shared_out = case.model.remote_block(destination).and_then(|remote| {
        let finding = blocks::shared_out(case.model, remote.route)?;
        Some(finding.with(EvidenceSource::Route, format!("this pair of addresses takes {node}")))
    });
    if let Some(finding) = shared_out {
        return Some(Located { finding: finding.with_all(evidence), place });
    }
    let state = neighbour_state(case, device.index, asked);
    let mut found = if asked == node {
        finding(
            Cause::StaleTunnelRoute,
            SubjectKind::Peer,
            node.to_string(),
            format!("next hop {node} of block {block} does not answer ARP"),
        )
    } else {
        finding(
            Cause::UnderlayRouteMissing,
            SubjectKind::Address,
            asked.to_string(),
            format!("router {asked} on the way to node {node} does not answer ARP"),
        )
    };
    found = found.with_all(evidence);
    if let Some(state) = state {
        found = found.with(
            EvidenceSource::Neighbour,
            format!("{asked} dev {} is {state:?}", device.name).to_lowercase(),
        );
    }
    if let Some(block) = case.model.remote_block(destination) {
        found = found.with(EvidenceSource::Route, route_words(case.model, block.route));
    }
    found = found.with(EvidenceSource::Route, route_words(case.model, route));
    let found = found
        .confirm(&case.node, format!("arping -c 3 -I {} {asked}", device.name))
        .confirm("kubectl", "kubectl get nodes -o wide   # is there still a node with this address?")
        .cure("kubectl", format!("calicoctl delete node NAME   # of {node}, if that node is gone for good; its routes go with it"));
    Some(Located { finding: found, place })
}
