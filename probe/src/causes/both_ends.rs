//! Packets that left this node for one that watched them too: what arrived there is a fact, and what became of it
//! there is judged by the rules that judge this node.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{
    Cause,
    case::{Case, Located, finding},
    misdirected,
    routing::route_words,
    trail::Step,
    verdict::{self, Ending},
};
use crate::{
    observation::{Sighting, Traffic},
    report::document::{Direction, EvidenceSource, Point, Stage, SubjectKind},
    sample::Link,
};

/// Why another node's silence proves nothing: it is not the one to which these packets were sent. `None` where it is,
/// or where none left.
pub fn stranger(case: &Case<'_>, far: &Case<'_>) -> Option<String> {
    let sent_to = sent_to(case)?;
    if far.model.is_local(sent_to) {
        return None;
    }
    Some(format!(
        "{} was asked, and has not the address {sent_to}, to which these packets were sent",
        far.node
    ))
}

/// The address of the node to which the packets left.
fn sent_to(case: &Case<'_>) -> Option<Ipv4Addr> {
    let tunnelled = case.trail.at(Direction::Forward, Point::ToWire).flat_map(|step| &step.seen);
    let outer = tunnelled.filter_map(|sighting| sighting.outer).map(|(_, destination)| destination).next();
    outer.or_else(|| {
        let bare = case.trail.at(Direction::Forward, Point::Bare);
        let left = bare.flat_map(|step| &step.seen).any(|sighting| sighting.outgoing);
        case.model.bare_next_hop(case.target).filter(|_| left)
    })
}

/// Whether any packet left this node for another.
pub fn has_left(case: &Case<'_>) -> bool {
    sent_to(case).is_some()
}

/// Judges the silence after the last point on this node. The place that lost most of the packets counts.
pub(super) fn beyond(case: &Case<'_>, lost: &BTreeSet<u16>) -> Option<Ending> {
    let far = case.far?;
    if !knows_answers(far) {
        return None;
    }
    let left = &left(case, Direction::Forward) & lost;
    let arrived = &arrived(far, Direction::Forward) & &left;
    let answered = &left_for(far, case) & &arrived;
    let (on_the_way, there) = (&left - &arrived, &arrived - &answered);
    let most = on_the_way.len().max(there.len()).max(answered.len());
    if most == 0 {
        None
    } else if on_the_way.len() == most {
        Some(Ending::Located(lost_between(case, case, far, Direction::Forward)))
    } else if there.len() == most {
        let elsewhere = answered_elsewhere(case, far, &there);
        Some(elsewhere.unwrap_or_else(|| verdict::locate(far, &there)))
    } else {
        Some(Ending::Located(lost_between(case, far, case, Direction::Return)))
    }
}

/// An answer to a datagram is known by the port that it was sent from, which NAT may change.
fn knows_answers(far: &Case<'_>) -> bool {
    if !matches!(far.traffic, Traffic::Udp(_)) {
        return true;
    }
    let known = |port| far.probes().any(|probe| probe.source_port == Some(port));
    let forward = far.trail.steps.iter().filter(|step| step.direction == Direction::Forward);
    let mut ports = forward.flat_map(|step| &step.seen).filter_map(|sighting| sighting.packet.ports);
    ports.all(|(source, _)| known(source))
}

/// The probes that left a node for another one.
fn left(case: &Case<'_>, direction: Direction) -> BTreeSet<u16> {
    sequences(case, direction, &[Point::ToWire, Point::Bare], |sighting| sighting.outgoing)
}

/// The probes that came to a node from another one.
fn arrived(case: &Case<'_>, direction: Direction) -> BTreeSet<u16> {
    let points = [Point::FromWire, Point::Bare, Point::FromTunnel];
    sequences(case, direction, &points, |sighting| !sighting.outgoing)
}

/// The probes whose answers left the far node for this one.
fn left_for(far: &Case<'_>, case: &Case<'_>) -> BTreeSet<u16> {
    sequences(far, Direction::Return, &[Point::ToWire, Point::Bare], |sighting| {
        sighting.outgoing
            && match sighting.outer {
                Some((_, destination)) => case.model.is_local(destination),
                None => far.model.is_lawfully_bare(sighting.packet.destination, sighting.link),
            }
    })
}

fn sequences(
    case: &Case<'_>,
    direction: Direction,
    points: &[Point],
    wanted: impl Fn(&Sighting) -> bool,
) -> BTreeSet<u16> {
    let steps = case.trail.steps.iter();
    steps
        .filter(|step| step.direction == direction && points.contains(&step.point))
        .flat_map(|step| step.seen.iter())
        .filter(|sighting| wanted(sighting))
        .map(|sighting| sighting.packet.sequence)
        .collect()
}

/// Answers that the far node sent, and not to this node.
fn answered_elsewhere(case: &Case<'_>, far: &Case<'_>, lost: &BTreeSet<u16>) -> Option<Ending> {
    if far.trail.drop_here(Direction::Forward).is_some() {
        return None;
    }
    let elsewhere = |step: &&Step<'_>| step.seen.iter().any(|s| lost.contains(&s.packet.sequence));
    let step = far.trail.at(Direction::Return, Point::ToWire).find(elsewhere)?;
    let (_, to) = step.seen.iter().find_map(|sighting| sighting.outer)?;
    if let Some(located) = misdirected::by_route(far, Direction::Return) {
        return Some(Ending::Located(located));
    }
    let device = far.link_name(step.link);
    let place = far.place(Direction::Return, Stage::Routing, Some(device.clone()));
    let source = far.sender.address()?;
    let (Some(own), Some(there)) = (case.model.own_block(source), far.model.remote_block(source)) else {
        let seen = format!("{} answers by {device} to {to}, which is not {}", far.node, case.node);
        return Some(Ending::Unknown { place: Some(place), seen });
    };
    let block = there.route.destination;
    let found = finding(
        Cause::BlockOwnerConflict,
        SubjectKind::Block,
        block.to_string(),
        format!("{} sends packets for block {block} to {to}, and the block is {}'s", far.node, case.node),
    )
    .with(EvidenceSource::Route, format!("{}: {}", far.node, route_words(far.model, there.route)))
    .with(EvidenceSource::Route, format!("{}: {}", case.node, route_words(case.model, own)))
    .confirm(&far.node, format!("birdcl show route for {source} all   # who announces it?"));
    Some(Ending::Located(Located { finding: found, place }))
}

/// Packets that left one of the nodes for the other, which saw none of those that were lost.
fn lost_between(case: &Case<'_>, from: &Case<'_>, to: &Case<'_>, direction: Direction) -> Located {
    let steps = || {
        let leaving = [Point::ToWire, Point::Bare];
        from.trail.steps.iter().filter(move |step| {
            step.direction == direction
                && leaving.contains(&step.point)
                && step.seen.iter().any(|s| s.outgoing)
        })
    };
    let first = steps().find_map(|step| step.seen.iter().find(|sighting| sighting.outgoing));
    let outer = first.and_then(|sighting| sighting.outer);
    let how = if outer.is_some() { "encapsulated" } else { "without encapsulation" };
    let address = outer.map(|(_, destination)| destination).or_else(|| to.model.own_address());
    let address = address.map_or_else(|| to.node.clone(), |address| address.to_string());
    let (sent, there) = (left(from, direction), arrived(to, direction));
    let there = (&there & &sent).len();
    let there = if there == 0 { "none".to_owned() } else { there.to_string() };
    let summary = format!(
        "{} left {} for {} ({address}) {how}, and {there} arrived there",
        sent.len(),
        from.node,
        to.node
    );
    let subject = outer.map_or_else(|| address.clone(), |(source, _)| format!("{source} → {address}"));
    let mut found = finding(Cause::LostInUnderlay, SubjectKind::Peer, subject, summary);
    for step in steps() {
        let count = step.seen.iter().filter(|sighting| sighting.outgoing).count();
        let device = from.link_name(step.link);
        found = found.with(EvidenceSource::Probe, format!("{count} left {device} of {}", from.node));
    }
    for error in &case.trail.errors {
        let text = format!("{} sent ICMP type {} code {} for it", error.from, error.icmp_type, error.code);
        found = found.with(EvidenceSource::Probe, text);
    }
    let doubts = doubts(to);
    found = if doubts.is_empty() {
        let watched = uplinks(to).iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
        found.with(EvidenceSource::Probe, format!("{there} came in by {watched} of {}", to.node))
    } else {
        found.inferred()
    };
    for doubt in doubts {
        found = found.with(EvidenceSource::Counter, format!("on {}: {doubt}", to.node));
    }
    let filter = match outer {
        Some((source, destination)) => format!("ip proto 4 and src {source} and dst {destination}"),
        None => format!("src {}", first.map_or(case.target, |sighting| sighting.packet.source)),
    };
    let found = found
        .confirm(&to.node, format!("tcpdump -ni any '{filter}'   # and at each router between the two"))
        .confirm(
            &from.node,
            format!("ping -c 3 {address}   # passes? then what lies between refuses IP protocol 4 alone"),
        );
    let place = crate::report::document::Place {
        node: case.far.map_or_else(|| to.node.clone(), |far| far.node.clone()),
        direction: Some(direction),
        stage: Stage::Underlay,
        device: None,
    };
    Located { finding: found, place }
}

/// The devices by which packets of other machines come in.
fn uplinks<'a>(case: &Case<'a>) -> Vec<&'a Link> {
    case.before.links.iter().filter(|link| case.model.is_wire(link.index)).collect()
}

/// Why packets may have reached a node and not been seen there.
fn doubts(case: &Case<'_>) -> Vec<String> {
    let mut doubts = case.observation.missed.clone();
    for link in uplinks(case) {
        let lost = case.link_rise(&link.name, |link| {
            link.statistics.rx_errors.saturating_add(link.statistics.rx_missed_errors)
        });
        if let Some(lost @ 1..) = lost {
            doubts.push(format!("errors and missed packets of {} rose by {lost}", link.name));
        }
    }
    doubts
}
