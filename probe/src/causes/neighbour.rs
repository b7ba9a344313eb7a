//! Packets lost waiting for an ARP answer: from the next-hop node, from a pod, or on a device that should not
//! have had them.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, finding},
    pod,
    route_table::blocks,
    routing::{self, drop_evidence, neighbour_state, route_words},
    trail::DeviceRole,
};
use crate::{
    model::routing::{Decision, Flow, look_up},
    observation::DropSighting,
    report::document::{Direction, EvidenceSource, Stage, SubjectKind},
};

/// Judges a drop by the neighbour layer.
pub fn failed(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Option<Located> {
    if let Some((_, node)) = drop.outer {
        return next_hop_silent(case, direction, drop, node);
    }
    let flow = routing::flow(case, direction, drop.mark)?;
    let Decision::Route { route, hops } = look_up(case.model, &flow) else { return None };
    let out = drop
        .link
        .filter(|link| hops.iter().any(|hop| hop.link == Some(*link)))
        .or_else(|| hops.first().and_then(|hop| hop.link))?;
    let device = case.link(out)?;
    match DeviceRole::of(device) {
        DeviceRole::Pod => Some(pod::does_not_answer_arp(case, direction, flow.destination, device, drop)),
        DeviceRole::Wire => {
            let pool = case.model.pool_of(flow.destination)?;
            if pool.cidr.contains(&route.destination) {
                routing::wrong_route(case, direction, flow.destination, route, device).map(|located| {
                    Located { finding: located.finding.with_all(drop_evidence(case, Some(drop))), ..located }
                })
            } else {
                None
            }
        }
        DeviceRole::Tunnel => None,
    }
}

/// The node that the tunnel sends to, or the router on the way to it, is silent.
fn next_hop_silent(
    case: &Case<'_>,
    direction: Direction,
    drop: &DropSighting,
    node: Ipv4Addr,
) -> Option<Located> {
    let outer = Flow { source: None, destination: node, input_link: None, mark: 0, tos: 0 };
    let Decision::Route { route, hops } = look_up(case.model, &outer) else { return None };
    let hop = hops.first()?;
    let device = case.link(hop.link?)?;
    let asked = hop.gateway.unwrap_or(node);
    let block = case.block_of(drop.packet.destination);
    let evidence = drop_evidence(case, Some(drop));
    let place = case.place(direction, Stage::Neighbour, Some(device.name.clone()));
    let shared_out = case.model.remote_block(drop.packet.destination).and_then(|remote| {
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
    if let Some(block) = case.model.remote_block(drop.packet.destination) {
        found = found.with(EvidenceSource::Route, route_words(case.model, block.route));
    }
    found = found.with(EvidenceSource::Route, route_words(case.model, route));
    let found = found
        .confirm(&case.node, format!("arping -c 3 -I {} {asked}", device.name))
        .confirm("kubectl", "kubectl get nodes -o wide   # is there still a node with this address?")
        .cure("kubectl", format!("calicoctl delete node NAME   # of {node}, if that node is gone for good; its routes go with it"));
    Some(Located { finding: found, place })
}
