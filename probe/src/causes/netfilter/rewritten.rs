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
        case::{self, Case, Sender},
    },
    model::netfilter::{Bits, Device, Firewall, Packet, Place, Transport},
    observation::{PacketKind, Sighting},
    report::document::{Direction, EvidenceSource, Finding, Point, Severity, SubjectKind},
    sample::{ConnectionState, NetfilterHook},
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
    let rules = rules(case, address, sighting);
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

/// The rules that may have done it. They count the first packet of a connection alone.
fn rules<'a>(case: &Case<'a>, sender: Ipv4Addr, seen: &Sighting) -> Vec<(Place<'a>, Counted)> {
    let Some(sets) = case.before.rule_sets.known() else { return Vec::new() };
    let transport = match seen.packet.kind {
        PacketKind::EchoRequest => Transport::Icmp { icmp_type: 8, code: 0 },
        _ => Transport::Unknown,
    };
    let output = case.link(seen.link);
    let packet = Packet {
        source: sender,
        destination: seen.packet.destination,
        protocol: seen.packet.protocol,
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
