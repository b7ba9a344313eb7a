//! Packets that left this node rightly and for which nothing came back. One end cannot tell more than that,
//! unless the other node says so itself.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, finding},
    misdirected, netfilter,
    pod::pod_words,
    queue, tunnel,
};
use crate::report::document::{Direction, EvidenceSource, Place, Point, Severity, Stage, SubjectKind};

/// Judges the silence after the last point on this node.
pub fn this_node(case: &Case<'_>) -> Located {
    let peer = case.model.tunnel_next_hop(case.target).or_else(|| case.model.bare_next_hop(case.target));
    let node = peer.map_or_else(|| "the other node".to_owned(), |peer| peer.to_string());
    let sent = case.trail.count(Direction::Forward, Point::ToWire);
    let how = if sent > 0 { "encapsulated" } else { "without encapsulation" };
    let sent = sent.max(case.trail.count(Direction::Forward, Point::Bare));
    let device = case
        .trail
        .steps
        .iter()
        .find(|step| {
            matches!(step.point, Point::ToWire | Point::Bare) && step.direction == Direction::Forward
        })
        .map(|step| case.link_name(step.link));
    let known = misdirected::by_route(case, Direction::Forward)
        .or_else(|| tunnel::without_address(case))
        .or_else(|| refused_by_node(case, peer));
    if let Some(located) = known {
        return located;
    }
    let place = Place { node: node.clone(), direction: None, stage: Stage::Underlay, device: None };
    if let Some(rewritten) = netfilter::rewritten_source(case) {
        let text = format!("{sent} left for {node} so, and nothing came back");
        let found = rewritten.inferred().with(EvidenceSource::Probe, text);
        return Located {
            finding: found.confirm(&node, format!("caliprobe diagnose {}", case.target)),
            place,
        };
    }
    let came_back = match case.probes().count() - case.lost() {
        0 => "nothing came back".to_owned(),
        answered => format!("{answered} came back"),
    };
    let mut found = finding(
        Cause::LostInUnderlay,
        SubjectKind::Peer,
        node.clone(),
        format!("beyond this node: sent to {node} {how}, {came_back}"),
    )
    .inferred()
    .with(
        EvidenceSource::Probe,
        format!("{sent} left {} to {node}; {came_back}", device.as_deref().unwrap_or("this node")),
    );
    found.severity = Severity::Warning;
    found = found.with_all(queue::missed_arrivals(case));
    for error in &case.trail.errors {
        found = found.with(
            EvidenceSource::Probe,
            format!("{} sent ICMP type {} code {} for it", error.from, error.icmp_type, error.code),
        );
    }
    let found = found
        .confirm(&node, format!("caliprobe diagnose {}", case.target))
        .confirm(&node, "tcpdump -ni any 'ip proto 4'   # does it arrive there?");
    Located { finding: found, place }
}

/// The other node answered that nothing takes protocol 4 there: its `tunl0` is down or missing
/// (`net/ipv4/tunnel4.c` sends port unreachable, `net/ipv4/ip_input.c` protocol unreachable).
fn refused_by_node(case: &Case<'_>, peer: Option<Ipv4Addr>) -> Option<Located> {
    let peer = peer?;
    let refusal = misdirected::refusal(case, peer)?;
    let found = finding(
        Cause::TunnelDown,
        SubjectKind::Peer,
        peer.to_string(),
        format!("beyond this node: {peer} takes no IPIP, its tunl0 is down or missing"),
    )
    .inferred()
    .with(EvidenceSource::Probe, refusal)
    .confirm(peer.to_string(), "ip -d link show tunl0")
    .cure(peer.to_string(), "ip link set tunl0 up");
    let place = Place {
        node: peer.to_string(),
        direction: Some(Direction::Forward),
        stage: Stage::Decap,
        device: Some("tunl0".to_owned()),
    };
    Some(Located { finding: found, place })
}

/// The target in words, for texts that speak of the far end.
pub fn target_words(case: &Case<'_>) -> String {
    pod_words(case.model, case.target)
}
