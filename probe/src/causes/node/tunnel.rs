//! `tunl0` and the MTUs along the path.

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding, tunnel},
    model::{Model, is_pod_link, underlay},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Link, Part},
};

/// Bytes of the outer IPv4 header.
const OUTER_HEADER: u32 = 20;

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Tunnel);
    let Some(tunnel) = model.tunnel() else {
        match model.needs_tunnel() {
            _ if !model.sample.holds(Part::Links) => {
                review.unseen("tunl0", "not every device was shown: ip addr");
            }
            Some(_) => review.found(tunnel::fault(model)),
            None => review.pass("no tunl0, and nothing here needs one"),
        }
        return review;
    };
    // A device that only routes name counts as one in order; where it is down, an output has said so.
    if !model.sample.holds(Part::LinkStates) && tunnel.up {
        review.unseen("whether tunl0 is up", "the devices' states were not shown: ip addr");
        return review;
    }
    match tunnel::fault(model) {
        Some(fault) => review.found([fault]),
        None if tunnel.up => {
            review.pass(format!("tunl0 is up, MTU {}", tunnel.mtu));
            review.found(without_address(model, tunnel));
        }
        None => review.pass("tunl0 is down, and nothing here needs it"),
    }
    mtus(model, tunnel, &mut review);
    review
}

/// Without one the host's own packets to pods of other nodes leave with an address that answers do not come back to
/// through the tunnel.
fn without_address(model: &Model<'_>, tunnel: &Link) -> Option<Finding> {
    let sample = model.sample;
    let needed = model.needs_tunnel()?;
    if !sample.holds(Part::Addresses) || sample.addresses.iter().any(|address| address.link == tunnel.index) {
        return None;
    }
    let found = finding(
        Cause::TunnelAddressMissing,
        SubjectKind::Interface,
        tunnel::TUNNEL,
        "tunl0 has no address: pods reach each other, this node's own processes do not reach other nodes' pods",
    )
    .with_severity(Severity::Warning)
    .with(EvidenceSource::Link, "no IPv4 address is on tunl0")
    .with(EvidenceSource::Route, needed)
    .confirm("kubectl", format!("kubectl get node {} -o yaml | grep IPv4IPIPTunnelAddr", model.node_name()));
    Some(found)
}

/// Full-sized packets of pods must fit the tunnel, and encapsulated ones the uplink. Where they do not, path MTU
/// discovery has to work, which it mostly does.
fn mtus(model: &Model<'_>, tunnel: &Link, review: &mut Review) {
    let wires = underlay::links(model).into_iter().filter_map(|index| model.link(index));
    let wires = wires.filter(|link| link.up && link.mtu > 0);
    let Some(wire) = wires.min_by_key(|link| link.mtu).filter(|_| tunnel.mtu > 0) else { return };
    let largest = model.sample.links.iter().filter(|link| is_pod_link(link)).max_by_key(|link| link.mtu);
    let room = wire.mtu.saturating_sub(OUTER_HEADER);
    if tunnel.mtu > room && model.needs_tunnel().is_some() {
        return review.found([above_room(model, tunnel, wire, room)]);
    }
    match largest.filter(|pod| pod.mtu > tunnel.mtu) {
        // The node itself tells its pods so by ICMP, which no other machine can lose.
        Some(pod) => review.pass(format!(
            "{} has MTU {}, above tunl0's {}: pods learn it from this node",
            pod.name, pod.mtu, tunnel.mtu
        )),
        None => review.pass(format!(
            "MTUs fit: pods ≤ tunl0 {} ≤ {} {} − {OUTER_HEADER}",
            tunnel.mtu, wire.name, wire.mtu
        )),
    }
}

fn above_room(model: &Model<'_>, tunnel: &Link, wire: &Link, room: u32) -> Finding {
    let summary = format!(
        "tunl0 has MTU {}, the room within {} is {room}: full packets depend on path MTU discovery",
        tunnel.mtu, wire.name
    );
    finding(Cause::MtuBlackHole, SubjectKind::Interface, tunnel::TUNNEL, summary)
        .inferred()
        .with_severity(Severity::Info)
        .with(EvidenceSource::Link, format!("tunl0 MTU {}, {} MTU {}", tunnel.mtu, wire.name, wire.mtu))
        .confirm(model.node_name(), "ip link show | grep mtu; cat /var/lib/calico/mtu")
}
