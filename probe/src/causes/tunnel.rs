//! Packets lost entering or leaving `tunl0`: the device down or missing, no route to the other node, a loop.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, Sender, finding},
    neighbour::outer_flow,
    route_table::next_hops,
    routing::{self, drop_evidence, route_words},
};
use crate::{
    model::{
        Model,
        routing::{Decision, look_up},
    },
    observation::DropSighting,
    report::document::{Direction, Evidence, EvidenceSource, Finding, Point, Stage, SubjectKind},
    sample::{Address, Part},
};

/// The name of the ipip module's fallback device, which Calico uses.
pub const TUNNEL: &str = "tunl0";

/// `tunl0` down or absent although this node needs it. The kernel takes a device's routes with it, so missing
/// block routes are its consequence.
#[must_use]
pub fn down_here(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let stage = Stage::Tunnel;
    fault(case.model)
        .map(|finding| Located { finding, place: case.place(direction, stage, Some(TUNNEL.to_owned())) })
}

/// The same, met by packets that arrived from another node.
#[must_use]
pub fn down_for_arrivals(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let stage = Stage::Decap;
    fault(case.model)
        .map(|finding| Located { finding, place: case.place(direction, stage, Some(TUNNEL.to_owned())) })
}

/// What is wrong with `tunl0` itself, where this node needs it.
#[must_use]
pub fn fault(model: &Model<'_>) -> Option<Finding> {
    let needed = model.needs_tunnel()?;
    match model.tunnel() {
        Some(tunnel) if !tunnel.up => Some(
            finding(
                Cause::TunnelDown,
                SubjectKind::Interface,
                TUNNEL,
                "tunl0 is down, so its routes are gone",
            )
            .with(EvidenceSource::Link, "tunl0 is set down")
            .with(EvidenceSource::Rule, needed)
            .cure(model.node_name(), "ip link set tunl0 up")
            .confirm(
                model.node_name(),
                "ip route show dev tunl0   # BIRD writes its routes again within 2 s, Felix within 90 s",
            ),
        ),
        Some(_) => None,
        None if !model.sample.holds(Part::Links) => None,
        None => Some(
            finding(Cause::TunnelMissing, SubjectKind::Interface, TUNNEL, "this node has no tunl0")
                .with(EvidenceSource::Link, "no device is named tunl0")
                .with(EvidenceSource::Rule, needed)
                .cure(model.node_name(), "modprobe ipip   # Felix sets tunl0 up within 10 s"),
        ),
    }
}

/// Judges a packet that reached `tunl0` and was freed by the tunnel driver.
#[must_use]
pub fn entry(case: &Case<'_>, direction: Direction, drop: Option<&DropSighting>) -> Option<Located> {
    let destination = routing::flow(case, direction, 0)?.destination;
    let place = || case.place(direction, Stage::Tunnel, Some(TUNNEL.to_owned()));
    let Some(node) = case.model.tunnel_next_hop(destination) else {
        let finding = without_next_hop(case, direction, drop)?;
        return Some(Located { finding, place: place() });
    };
    match look_up(case.model, &outer_flow(node)) {
        Decision::NoRoute => {
            Some(Located { finding: no_underlay_route(case, node, destination, None, drop), place: place() })
        }
        Decision::Route { route, .. } if route.hops.is_empty() => {
            let words = route_words(case.model, route);
            Some(Located {
                finding: no_underlay_route(case, node, destination, Some(words), drop),
                place: place(),
            })
        }
        Decision::Route { route, hops }
            if hops.iter().any(|hop| hop.link.is_some_and(|link| is_tunnel(case, link))) =>
        {
            let words = route_words(case.model, route);
            let mut finding = finding(
                Cause::TunnelLoop,
                SubjectKind::Route,
                route.destination.to_string(),
                format!("the route to node {node} leads into tunl0 again"),
            )
            .with(EvidenceSource::Route, words.clone())
            .with_all(drop_evidence(case, drop));
            finding = finding.with_all(collisions(case));
            let finding = finding.confirm(&case.node, format!("ip route get {node}"));
            Some(Located { finding, place: place() })
        }
        _ => None,
    }
}

/// The tunnel takes the packet's own destination as the outer one, and so leads into itself.
fn without_next_hop(case: &Case<'_>, direction: Direction, drop: Option<&DropSighting>) -> Option<Finding> {
    let flow = routing::flow(case, direction, drop.map_or(0, |drop| drop.mark))?;
    let Decision::Route { route, hops } = look_up(case.model, &flow) else { return None };
    let into_itself =
        hops.iter().any(|hop| hop.gateway.is_none() && hop.link.is_some_and(|link| is_tunnel(case, link)));
    let found = into_itself.then(|| next_hops::into_itself(case.model, route))?;
    Some(found.with_all(drop_evidence(case, drop)).with_all(collisions(case)))
}

fn collisions(case: &Case<'_>) -> Option<Evidence> {
    let rise = case.link_rise(TUNNEL, |link| link.statistics.collisions).filter(|rise| *rise > 0)?;
    Some(Evidence { source: EvidenceSource::Counter, text: format!("tunl0 collisions rose by {rise}") })
}

/// This node's own packets took another source than the tunnel's address, which `tunl0` has lost; pods' packets
/// bring their own.
#[must_use]
pub fn without_address(case: &Case<'_>) -> Option<Located> {
    let tunnel = case.model.tunnel()?;
    let of_tunnel = |address: &&Address| address.link == tunnel.index;
    if !matches!(case.sender, Sender::Host { .. }) || case.before.addresses.iter().any(|a| of_tunnel(&a)) {
        return None;
    }
    let sent = case.trail.at(Direction::Forward, Point::ToTunnel).find_map(|step| step.seen.first())?;
    let source = sent.packet.source;
    let finding = finding(
        Cause::TunnelAddressMissing,
        SubjectKind::Interface,
        TUNNEL,
        format!("tunl0 has no address, so this node's own packets to pods come from {source}"),
    )
    .inferred()
    .with(EvidenceSource::Link, "tunl0 has no address")
    .with(EvidenceSource::Probe, format!("the probes entered tunl0 from {source}, and nothing came back"))
    .confirm(case.model.node_name(), "ip address show dev tunl0   # Felix sets it within 10 s")
    .confirm(
        "kubectl",
        format!("kubectl get node {} -o jsonpath='{{.metadata.annotations.projectcalico\\.org/IPv4IPIPTunnelAddr}}'", case.node),
    );
    Some(Located { finding, place: case.place(Direction::Forward, Stage::Tunnel, Some(TUNNEL.to_owned())) })
}

fn is_tunnel(case: &Case<'_>, link: u32) -> bool {
    case.link(link).is_some_and(|link| link.name == TUNNEL)
}

fn no_underlay_route(
    case: &Case<'_>,
    node: Ipv4Addr,
    destination: Ipv4Addr,
    words: Option<String>,
    drop: Option<&DropSighting>,
) -> Finding {
    let text = words.unwrap_or_else(|| format!("no route of this node covers {node}"));
    let mut finding = finding(
        Cause::UnderlayRouteMissing,
        SubjectKind::Peer,
        node.to_string(),
        format!("no route to node {node}, the next hop of block {}", case.block_of(destination)),
    )
    .with(EvidenceSource::Route, text)
    .with_all(drop_evidence(case, drop));
    if let Some(rise) =
        case.link_rise(TUNNEL, |link| link.statistics.tx_carrier_errors).filter(|rise| *rise > 0)
    {
        finding = finding.with(EvidenceSource::Counter, format!("tunl0 tx_carrier_errors rose by {rise}"));
    }
    finding.confirm(&case.node, format!("ip route get {node}")).cure(
        &case.node,
        "ip route replace default via GATEWAY dev UPLINK   # as this node's network configuration has it",
    )
}
