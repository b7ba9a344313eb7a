//! A pod's gateway, 169.254.1.1: no device has it, the node answers ARP for it by proxy. Where it does not, a pod
//! that holds no cached answer sends nothing (net/ipv4/arp.c: `arp_process`, `arp_fwd_proxy`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    Cause,
    case::{Case, Located, finding},
    routing,
};
use crate::{
    model::{
        Model,
        routing::{Decision, Flow, look_up},
    },
    report::document::{Direction, EvidenceSource, Finding, Severity, Stage, SubjectKind},
    sample::{Hop, Link, Part, Route, RouteKind},
};

/// The address that a pod takes for its gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Why the node would not answer for the gateway on a pod's device.
#[must_use]
pub fn silent(case: &Case<'_>, direction: Direction, device: &Link) -> Option<Located> {
    let unanswered = format!(
        "the pod's packets did not come out of {}: without an ARP answer for {GATEWAY} it sends none",
        device.name
    );
    if let Some(located) = routing::forwarding_off(case, direction, device, None) {
        let note = format!("{unanswered}, and proxy ARP needs forwarding");
        return Some(Located { finding: located.finding.with(EvidenceSource::Probe, note), ..located });
    }
    let finding = proxy_arp_off(case, device).or_else(|| {
        let pod = match direction {
            Direction::Forward => case.sender.address(),
            Direction::Return => Some(case.target),
        };
        unrouted(case.model, pod, device)
    })?;
    Some(Located {
        finding: finding.with(EvidenceSource::Probe, unanswered),
        place: case.place(direction, Stage::PodLink, Some(device.name.clone())),
    })
}

fn proxy_arp_off(case: &Case<'_>, device: &Link) -> Option<Finding> {
    let settings = case.before.sysctls.interfaces.get(&device.name)?;
    (settings.proxy_arp == Some(false)).then_some(())?;
    let setting = format!("net.ipv4.conf.{}.proxy_arp", device.name);
    let finding = finding(
        Cause::ProxyArpOff,
        SubjectKind::Sysctl,
        &setting,
        format!("{} does not answer its pod's ARP for {GATEWAY}: {setting} is 0", device.name),
    )
    .with(EvidenceSource::Sysctl, format!("{setting} = 0"))
    .cure(&case.node, format!("sysctl -w {setting}=1   # Felix sets it again when the interface goes up"));
    Some(finding)
}

/// The same as it stands, without a packet: no pod's device gets an answer.
#[must_use]
pub fn without_route(model: &Model<'_>) -> Option<Finding> {
    if !model.sample.holds(Part::Routes) {
        return named_zero(model).or_else(|| by_helper(model));
    }
    let mut pods = model.pods().iter();
    let first = pods.next().and_then(|pod| Some((pod.address, model.link(pod.link)?)))?;
    let finding = unrouted(model, Some(first.0), first.1)?;
    pods.filter_map(|pod| Some((pod.address, model.link(pod.link)?)))
        .all(|(address, device)| unrouted(model, Some(address), device).is_some())
        .then_some(finding)
}

/// A default route that became a route to the one address 0.0.0.0: where it stands, no default route does.
fn named_zero(model: &Model<'_>) -> Option<Finding> {
    let zero = Ipv4Net::from(Ipv4Addr::UNSPECIFIED);
    let mut routes = model.sample.routes.iter();
    let row = routes.find(|route| route.destination == zero && route.kind == RouteKind::Unicast)?;
    let covers = |route: &Route| route.destination.contains(&GATEWAY);
    if model.pods().is_empty() || model.sample.routes.iter().any(covers) {
        return None;
    }
    let words = routing::route_words(model, row);
    let summary = format!(
        "this node cannot answer its pods' ARP for {GATEWAY}: its default route leads to the one address 0.0.0.0"
    );
    Some(
        cures(model, summary)
            .with(EvidenceSource::Route, format!("{words}: a /32, which ip would call default otherwise"))
            .with(EvidenceSource::Route, format!("no row shown covers {GATEWAY}")),
    )
}

/// Nobody needs a route to the pods' gateway by way of a router, but who has no default route.
fn by_helper(model: &Model<'_>) -> Option<Finding> {
    if model.is_inside_pod() || model.tables.default_route().is_some() {
        return None;
    }
    let gateway = Ipv4Net::from(GATEWAY);
    let row = model.sample.routes.iter().find(|route| {
        route.destination == gateway
            && route.hops.iter().any(Hop::has_gateway)
            && route.kind == RouteKind::Unicast
    })?;
    let summary = format!(
        "a hand-made route leads to {GATEWAY} by way of a router: a stand-in for a default route, without which pods' ARP stays unanswered"
    );
    Some(
        cures(model, summary)
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Route, routing::route_words(model, row))
            .with(EvidenceSource::Route, "no default route is among the rows shown")
            .cure(model.node_name(), format!("ip route replace {GATEWAY}/32 dev UPLINK scope link   # no router: BIRD takes one of this node's own addresses for strange")),
    )
}

fn cures(model: &Model<'_>, summary: String) -> Finding {
    finding(Cause::NoRouteForGatewayArp, SubjectKind::Address, GATEWAY.to_string(), summary)
        .confirm(model.node_name(), format!("ip route get {GATEWAY}"))
        .cure(
            model.node_name(),
            "ip route add default via GATEWAY   # as this network's routers are; any route for it will do",
        )
}

/// An address of the node itself is answered for; these are not.
fn refuses(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit)
}

/// The node answers only for what it would route out by another device than the pod's.
fn unrouted(model: &Model<'_>, source: Option<Ipv4Addr>, device: &Link) -> Option<Finding> {
    let flow = Flow { source, destination: GATEWAY, input_link: Some(device.index), mark: 0, tos: 0 };
    let state = match look_up(model, &flow) {
        Decision::NoRoute => "no route covers it".to_owned(),
        Decision::Route { route, .. } if refuses(route.kind) => routing::route_words(model, route),
        Decision::Route { .. } | Decision::Rule { .. } | Decision::Undecided { .. } => return None,
    };
    let summary = format!(
        "this node cannot answer its pods' ARP for {GATEWAY}: it has no route for it, such as a default route"
    );
    Some(cures(model, summary).with(EvidenceSource::Route, format!("{GATEWAY}: {state}")))
}
