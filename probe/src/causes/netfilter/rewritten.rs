//! Packets between pods that leave with a node's address as their source: policies on the other node then judge the
//! wrong sender, and answers may not come back. The rewriting itself is proven by the addresses at the points.

use std::net::Ipv4Addr;

use super::{
    calico,
    counts::{Counted, counted},
    cures, words,
};
use crate::{
    causes::{
        Cause,
        case::{self, Case, Located, Sender},
        routing,
        trail::Telling,
    },
    model::{
        netfilter::{Bits, Device, Firewall, Packet, Place, Transport},
        routing::{Decision, look_up},
    },
    observation::{PacketId, PacketKind, Sighting},
    report::document::{Direction, EvidenceSource, Finding, Point, Severity, Stage, SubjectKind},
    sample::{ConnectionState, Link, NetfilterHook},
};

/// The sender's packets, seen behind its own interface with an address of this node; a warning, as far as nothing is
/// lost by it.
pub fn source(case: &Case<'_>) -> Option<Finding> {
    let Sender::Pod { address, .. } = case.sender else { return None };
    case.model.pool_of(case.target)?;
    let sighting = rewritten(case, address)?;
    let source = sighting.packet.source;
    let device = case.link_name(sighting.link);
    let mut found = case::finding(
        Cause::SnatOnPodTraffic,
        SubjectKind::Address,
        source.to_string(),
        format!("packets from pod {address} leave {device} as those of this node's {source}"),
    )
    .with_severity(Severity::Warning)
    .with(EvidenceSource::Probe, format!("source {address} at the pod's interface, {source} at {device}"));
    let rules = rules(case, address, sighting.packet, case.link(sighting.link));
    for (place, counted) in &rules {
        let packets = counted.packets().map_or_else(String::new, |packets| format!(", counted {packets}"));
        found = found.with(EvidenceSource::Rule, format!("{}{packets}", words::whole(place)));
    }
    if let Some(text) = missing_pool(case, &rules) {
        found = found.with(EvidenceSource::Rule, text);
    }
    let table =
        "iptables-save -c -t nat | grep -E 'MASQUERADE|SNAT'; nft list ruleset | grep -E 'masquerade|snat'";
    found = match rules.first() {
        Some((place, _)) => found.confirm(&case.node, words::shown_by(place)),
        None => found.confirm(&case.node, table),
    };
    Some(match rules.as_slice() {
        [(place, _)] => cures::at_owner(case, address, place, found),
        _ => found,
    })
}

/// The first packet of the sender that was seen leaving with another source, one of this node's.
fn rewritten<'a>(case: &Case<'a>, sender: Ipv4Addr) -> Option<&'a Sighting> {
    let behind = |point| matches!(point, Point::ToTunnel | Point::ToPod | Point::Bare);
    let steps =
        case.trail.steps.iter().filter(|step| step.direction == Direction::Forward && behind(step.point));
    steps
        .flat_map(|step| step.seen.iter().copied())
        .filter(|sighting| sighting.outgoing && sighting.packet.source != sender)
        .find(|sighting| case.model.is_local(sighting.packet.source))
}

/// Watched packets of which none was seen to leave by its own addresses, where a rule rewrites such: they are not
/// followed behind it, so whether they arrived is not known.
pub fn out_of_sight(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let Telling::Pair { source, .. } = case.telling else { return None };
    if direction == Direction::Return {
        return None;
    }
    let seen = case.trail.steps.iter().find(|step| step.direction == direction)?.seen.first()?;
    let Decision::Route { hops, .. } = look_up(case.model, &routing::flow(case, direction, 0)?) else {
        return None;
    };
    let output = case.link(hops.first()?.link?)?;
    let rules = rules(case, source, seen.packet, Some(output));
    let (place, packets) = rules
        .iter()
        .filter_map(|(place, counted)| Some((place, counted.packets()?)))
        .find(|(_, packets)| *packets > 0)?;
    let summary =
        format!("packets from {source} leave {} with another source, and were not followed", output.name);
    let found = case::finding(Cause::SnatOnPodTraffic, SubjectKind::Address, source.to_string(), summary)
        .inferred()
        .with_severity(Severity::Warning)
        .with(EvidenceSource::Rule, format!("{}, counted {packets}", words::whole(place)))
        .confirm(&case.node, words::shown_by(place))
        .confirm(
            &case.node,
            format!(
                "tcpdump -ni {} host {}   # do they arrive, and are they answered?",
                output.name, case.target
            ),
        );
    Some(Located {
        finding: found,
        place: case.place(direction, Stage::Netfilter, Some(output.name.clone())),
    })
}

/// The rules that may have done it. They count the first packet of a connection alone.
fn rules<'a>(
    case: &Case<'a>,
    sender: Ipv4Addr,
    seen: PacketId,
    output: Option<&'a Link>,
) -> Vec<(Place<'a>, Counted)> {
    let Some(sets) = case.before.rule_sets.known() else { return Vec::new() };
    let transport = match seen.kind {
        PacketKind::EchoRequest => Transport::Icmp { icmp_type: 8, code: 0 },
        _ => Transport::Unknown,
    };
    let packet = Packet {
        source: sender,
        destination: seen.destination,
        protocol: seen.protocol,
        transport,
        input: Device::Unknown,
        output: output.map_or(Device::Unknown, |link| Device::Known { index: link.index, name: &link.name }),
        mark: Bits::UNKNOWN,
        connection: Some(ConnectionState::New),
    };
    let walk = Firewall::new(sets).walk(case.model, NetfilterHook::Postrouting, &packet);
    let places = walk.rewrites.into_iter().map(|stop| stop.place);
    let counted = places.map(|place| (place, counted(&place, case.after.rule_sets.known())));
    counted.filter(|(_, counted)| counted.may_be(1)).collect()
}

/// Felix excepts destinations in the pools that its set holds.
fn missing_pool(case: &Case<'_>, rules: &[(Place<'_>, Counted)]) -> Option<String> {
    let is_felix = |place: &Place<'_>| calico::chain_name(&place.chain.name) == "cali-nat-outgoing";
    rules.iter().find(|(place, _)| is_felix(place))?;
    let pools = case.before.sets.pools.known()?;
    let held = pools.iter().any(|pool| pool.contains(&case.target));
    (!held).then(|| {
        format!(
            "Felix' set of pools has {} and none that holds {}: it is masqueraded as the outside is",
            pools.len(),
            case.target
        )
    })
}
