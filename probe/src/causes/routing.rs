//! Packets lost at this node's route look-up: no route, a blackhole, a wrong route, forwarding off. A packet that left by a wrong route is lost here too, though nothing dropped it.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{
    Cause,
    case::{Case, Located, Sender, finding},
    conflict,
    drop_kind::describe,
    pod, tunnel,
};
use crate::{
    model::{
        Model,
        routing::{Decision, Flow, look_up},
    },
    observation::{DropSighting, Sighting},
    report::document::{Direction, EvidenceSource, Finding, Stage, SubjectKind},
    sample::{Link, NeighbourState, Route, RouteKind},
};

/// The look-up that a packet of a direction meets on this node.
pub fn flow(case: &Case<'_>, direction: Direction, mark: u32) -> Option<Flow> {
    let sender = case.sender.address();
    Some(match direction {
        Direction::Forward => Flow {
            source: sender,
            destination: case.target,
            input_link: case.sender.link().or_else(|| arrival(case, direction)),
            mark,
            tos: 0,
        },
        Direction::Return => Flow {
            source: Some(case.target),
            destination: sender?,
            input_link: arrival(case, direction),
            mark,
            tos: 0,
        },
    })
}

/// The device by which packets of a direction came in last before routing.
fn arrival(case: &Case<'_>, direction: Direction) -> Option<u32> {
    let incoming = case.trail.steps.iter().filter(|step| step.direction == direction);
    incoming
        .flat_map(|step| &step.seen)
        .filter(|sighting| !sighting.outgoing && sighting.outer.is_none())
        .map(|s| s.link)
        .next_back()
}

/// Judges a packet that the look-up itself ended, or that vanished around it without a visible drop.
pub fn refused(case: &Case<'_>, direction: Direction, drop: Option<&DropSighting>) -> Option<Located> {
    if let Some(located) = drop.and_then(|drop| conflict::of_source(case, direction, drop)) {
        return Some(located);
    }
    let flow = flow(case, direction, drop.map_or(0, |drop| drop.mark))?;
    if let Some(located) = flow
        .input_link
        .and_then(|input| case.link(input))
        .and_then(|input| forwarding_off(case, direction, input, drop))
    {
        return Some(located);
    }
    let decision = look_up(case.model, &flow);
    match decision {
        Decision::Route { route, .. } => match route.kind {
            kind if refuses(kind) => refusing_route(case, direction, &flow, route, drop),
            _ => None,
        },
        Decision::NoRoute => Some(no_route(case, direction, &flow, drop)),
        Decision::Rule { .. } | Decision::Undecided { .. } => None,
    }
}

/// Whether a route of this type ends the packet.
pub fn refuses(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit)
}

/// Forwarding is off where a packet comes in.
pub fn forwarding_off(
    case: &Case<'_>,
    direction: Direction,
    input: &Link,
    drop: Option<&DropSighting>,
) -> Option<Located> {
    let sysctls = &case.before.sysctls;
    let interface = sysctls.interfaces.get(&input.name).and_then(|values| values.forwarding);
    let reason = drop.and_then(|drop| drop.reason.as_deref());
    if interface != Some(false) || reason.is_some_and(|reason| reason != "IP_INADDRERRORS") {
        return None;
    }
    let (setting, summary) = if sysctls.ip_forward == Some(false) {
        ("net.ipv4.ip_forward".to_owned(), "this node does not forward: net.ipv4.ip_forward is 0".to_owned())
    } else {
        let setting = format!("net.ipv4.conf.{}.forwarding", input.name);
        let summary = format!("{} does not forward: {setting} is 0", input.name);
        (setting, summary)
    };
    let mut finding = finding(Cause::IpForwardOff, SubjectKind::Sysctl, &setting, summary)
        .with(EvidenceSource::Sysctl, format!("{setting} = 0"))
        .with_all(drop_evidence(case, drop));
    if let Some(rise) = case.counter_rise("Ip.InAddrErrors").filter(|rise| *rise > 0) {
        finding = finding.with(EvidenceSource::Counter, format!("Ip.InAddrErrors rose by {rise}"));
    }
    let finding = finding
        .cure(&case.node, format!("sysctl -w {setting}=1"))
        .confirm(&case.node, "grep -r forward /etc/sysctl.conf /etc/sysctl.d   # what sets it to 0 at boot");
    Some(Located { finding, place: case.place(direction, Stage::Routing, Some(input.name.clone())) })
}

fn refusing_route(
    case: &Case<'_>,
    direction: Direction,
    flow: &Flow,
    route: &Route,
    drop: Option<&DropSighting>,
) -> Option<Located> {
    let destination = flow.destination;
    case.model.pool_of(destination)?;
    let own = case.model.own_block(destination);
    if route.kind == RouteKind::Blackhole && own.is_some_and(|block| block.destination == route.destination) {
        return Some(pod::not_routed(case, direction, flow, route, drop));
    }
    let words = route_words(case.model, route);
    let kind = kind_word(route.kind);
    let summary = format!("the route to block {} is {kind}", route.destination);
    let finding =
        finding(Cause::BlockRouteUnreachable, SubjectKind::Route, route.destination.to_string(), summary)
            .with(EvidenceSource::Route, words)
            .with_all(drop_evidence(case, drop));
    let finding = with_route_fixes(case, finding, Some(route));
    Some(Located { finding, place: case.place(direction, Stage::Routing, drop_device(case, drop, flow)) })
}

/// No route at all.
fn no_route(case: &Case<'_>, direction: Direction, flow: &Flow, drop: Option<&DropSighting>) -> Located {
    if let Some(located) = explained_by_device(case, direction, flow.destination) {
        return located;
    }
    let finding = block_route_missing(case, flow.destination)
        .with(EvidenceSource::Route, format!("no route of this node covers {}", flow.destination))
        .with_all(drop_evidence(case, drop));
    let finding = with_route_fixes(case, finding, None);
    Located { finding, place: case.place(direction, Stage::Routing, drop_device(case, drop, flow)) }
}

/// A device whose being down took the routes with it, so that the missing route is its consequence.
fn explained_by_device(case: &Case<'_>, direction: Direction, destination: Ipv4Addr) -> Option<Located> {
    if case.model.own_block(destination).is_some() {
        return None;
    }
    tunnel::down_here(case, direction)
}

/// Judges pod traffic that left by another device without encapsulation.
pub fn leaked(case: &Case<'_>, direction: Direction, sighting: &Sighting) -> Option<Located> {
    let flow = flow(case, direction, sighting.mark.unwrap_or(0))?;
    let left_by = case.link(sighting.link)?;
    let Decision::Route { route, hops } = look_up(case.model, &flow) else { return None };
    // The routes were others when it left.
    if hops.iter().all(|hop| hop.link != Some(left_by.index)) {
        return None;
    }
    let pool = case.model.pool_of(flow.destination)?;
    if pool.cidr.contains(&route.destination) && route.destination.prefix_len() > 0 {
        return wrong_route(case, direction, flow.destination, route, left_by);
    }
    if let Some(located) = explained_by_device(case, direction, flow.destination) {
        return Some(located);
    }
    let to = sighting_gateway(route).map_or_else(String::new, |gateway| format!(", to {gateway}"));
    let count =
        case.trail.steps.iter().filter(|step| step.link == sighting.link).map(|step| step.seen.len()).max();
    let finding = block_route_missing(case, flow.destination)
        .with(
            EvidenceSource::Route,
            format!("the longest match is {}: {}", route.destination, route_words(case.model, route)),
        )
        .with(
            EvidenceSource::Probe,
            format!("{} left {} unencapsulated{to}", count.unwrap_or_default(), left_by.name),
        );
    let finding = with_route_fixes(case, finding, None);
    Some(Located { finding, place: case.place(direction, Stage::Routing, Some(left_by.name.clone())) })
}

fn sighting_gateway(route: &Route) -> Option<Ipv4Addr> {
    route.hops.first().and_then(|hop| hop.gateway)
}

fn block_route_missing(case: &Case<'_>, destination: Ipv4Addr) -> Finding {
    let block = case.block_of(destination);
    finding(
        Cause::BlockRouteMissing,
        SubjectKind::Block,
        block.to_string(),
        format!("no route to block {block}"),
    )
}

/// A more specific or preferred route inside the pool that is not Calico's, or Calico's own without the tunnel.
pub fn wrong_route(
    case: &Case<'_>,
    direction: Direction,
    destination: Ipv4Addr,
    route: &Route,
    left_by: &Link,
) -> Option<Located> {
    let words = route_words(case.model, route);
    let gateway = sighting_gateway(route);
    let place = case.place(direction, Stage::Routing, Some(left_by.name.clone()));
    let subject = route.destination.to_string();
    if let Some(gateway) = gateway
        && is_calico_protocol(route.protocol)
    {
        let by_router = case.model.needs_tunnel().is_some() && case.model.is_default_gateway(gateway);
        let (code, summary) = if case.model.is_node(gateway) || by_router {
            (
                Cause::EncapsulationMissing,
                format!("block {} leaves {} without encapsulation", route.destination, left_by.name),
            )
        } else {
            (
                Cause::NextHopNotANode,
                format!("the next hop {gateway} of block {} is no Calico node", route.destination),
            )
        };
        let finding = finding(code, SubjectKind::Route, subject, summary)
            .inferred()
            .with(EvidenceSource::Route, words)
            .confirm("kubectl", "kubectl get ippools.crd.projectcalico.org -o yaml")
            .confirm(&case.node, format!("ip route get {destination}"));
        return Some(Located { finding, place });
    }
    let carrier = if left_by.carrier { "" } else { ", which has no carrier" };
    let summary =
        format!("route {} by {}{carrier} takes the place of the pod route", route.destination, left_by.name);
    let mut finding = finding(Cause::RouteOverlap, SubjectKind::Route, subject, summary)
        .with(EvidenceSource::Route, words.clone());
    if !left_by.carrier {
        finding = finding.with(EvidenceSource::Link, format!("{} is up without carrier", left_by.name));
    }
    if let Some(block) = case.model.remote_block(destination) {
        finding = finding
            .with(EvidenceSource::Route, format!("Calico's: {}", route_words(case.model, block.route)));
    }
    let finding = finding
        .confirm(&case.node, format!("ip route get {destination}; ip -d link show {}", left_by.name))
        .cure(&case.node, overlap_cure(route, left_by));
    Some(Located { finding, place })
}

/// What tells a route from others for the same destination, as `ip route` takes it.
pub fn table_and_metric(route: &Route) -> String {
    let table = if route.table == 254 { String::new() } else { format!(" table {}", route.table) };
    let metric = if route.metric == 0 { String::new() } else { format!(" metric {}", route.metric) };
    table + &metric
}

/// At the owner first: a Docker bridge comes back if only its route or link is deleted.
pub fn overlap_cure(route: &Route, left_by: &Link) -> String {
    match left_by.name.strip_prefix("br-") {
        Some(id) if left_by.kind.as_deref() == Some("bridge") => format!("docker network rm {id}"),
        _ => format!("ip route del {} dev {}{}", route.destination, left_by.name, table_and_metric(route)),
    }
}

/// What the drop events of one kind say, as evidence.
pub fn drop_evidence(
    case: &Case<'_>,
    drop: Option<&DropSighting>,
) -> Option<crate::report::document::Evidence> {
    let drop = drop?;
    let same = |other: &&super::trail::Dropped<'_>| {
        other.drop.symbol == drop.symbol && other.drop.reason == drop.reason && other.drop.link == drop.link
    };
    let count = case.trail.drops.iter().filter(same).count();
    let device = drop.link.map_or_else(String::new, |link| format!(" on {}", case.link_name(link)));
    Some(crate::report::document::Evidence {
        source: EvidenceSource::Drop,
        text: format!("{count} {}{device}", describe(drop)),
    })
}

/// Where the look-up met the packet: the device by which it came in.
pub fn drop_device(case: &Case<'_>, drop: Option<&DropSighting>, flow: &Flow) -> Option<String> {
    drop.and_then(|drop| drop.link).or(flow.input_link).map(|index| case.link_name(index))
}

fn with_route_fixes(case: &Case<'_>, finding: Finding, in_the_way: Option<&Route>) -> Finding {
    let finding =
        finding.confirm(&case.node, "calicoctl node status   # is the session to the block's node up?");
    if let Some(route) = in_the_way {
        let kind = kind_word(route.kind);
        if !is_calico_protocol(route.protocol) {
            return finding.cure(
                &case.node,
                format!("ip route del {kind} {}{}", route.destination, table_and_metric(route)),
            );
        }
    }
    let restart = |node: &str| {
        format!(
            "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={node}"
        )
    };
    finding.cure("kubectl", restart(&case.node))
}

/// `RTPROT_BIRD` and the number that Felix writes for its own routes by default.
pub fn is_calico_protocol(protocol: u8) -> bool {
    matches!(protocol, 12 | 80)
}

pub fn kind_word(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Blackhole => "blackhole",
        RouteKind::Unreachable => "unreachable",
        RouteKind::Prohibit => "prohibit",
        RouteKind::Throw => "throw",
        RouteKind::Local => "local",
        RouteKind::Broadcast => "broadcast",
        RouteKind::Anycast => "anycast",
        RouteKind::Multicast => "multicast",
        RouteKind::Nat => "nat",
        RouteKind::Unicast => "unicast",
        RouteKind::Other(_) => "a route of unknown type",
    }
}

/// A route as `ip route` prints it.
pub fn route_words(model: &Model<'_>, route: &Route) -> String {
    let mut words = String::new();
    if !matches!(route.kind, RouteKind::Unicast) {
        words.push_str(kind_word(route.kind));
        words.push(' ');
    }
    words.push_str(&if route.destination.prefix_len() == 0 {
        "default".to_owned()
    } else if route.destination.prefix_len() == 32 {
        route.destination.addr().to_string()
    } else {
        route.destination.to_string()
    });
    for hop in &route.hops {
        if route.hops.len() > 1 {
            words.push_str(" nexthop");
        }
        if let Some(gateway) = hop.gateway {
            let _ = write!(words, " via {gateway}");
        }
        if let Some(masked) = &hop.masked_gateway {
            let _ = write!(words, " via {masked}");
        }
        if let Some(link) = hop.link {
            let name = model.link(link).map_or_else(|| format!("if{link}"), |link| link.name.clone());
            let _ = write!(words, " dev {name}");
        }
    }
    words.push_str(match route.protocol {
        2 => " proto kernel",
        4 => " proto static",
        12 => " proto bird",
        80 => " proto 80",
        _ => "",
    });
    if route.metric != 0 {
        let _ = write!(words, " metric {}", route.metric);
    }
    words
}

/// A neighbour entry of an address on a device.
pub fn neighbour_state(case: &Case<'_>, link: u32, address: Ipv4Addr) -> Option<NeighbourState> {
    let find = |sample: &crate::sample::Sample| {
        sample
            .neighbours
            .iter()
            .find(|neighbour| neighbour.link == link && neighbour.address == address)
            .map(|neighbour| neighbour.state)
    };
    find(case.after).or_else(|| find(case.before))
}

/// The sender in words.
pub fn sender_words(sender: &Sender) -> String {
    match sender.address() {
        Some(address) => address.to_string(),
        None => "this node".to_owned(),
    }
}
