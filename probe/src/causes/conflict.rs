//! A pod's address that is also an address of this node itself: the table of local addresses comes before every
//! route, so the node takes the pod's packets, and refuses as forged what the pod sends.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, finding},
    pod::pod_words,
    routing::drop_evidence,
};
use crate::{
    model::{Model, is_tunnel_link},
    observation::DropSighting,
    report::document::{Direction, EvidenceSource, Finding, Stage, SubjectKind},
    sample::Link,
};

/// The target is this node's own address, so no probe can leave for the pod.
#[must_use]
pub fn of_target(case: &Case<'_>) -> Option<Located> {
    let (finding, device) = conflict(case.model, case.target)?;
    let finding = finding.with(
        EvidenceSource::Route,
        format!("{} is in the table of local addresses, which comes first", case.target),
    );
    let place = case.place(Direction::Forward, Stage::Routing, Some(device.name.clone()));
    Some(Located { finding, place })
}

/// A packet whose source is this node's own address came in from outside (`net/ipv4/fib_frontend.c`:
/// `__fib_validate_source`; no filter's setting matters).
#[must_use]
pub fn of_source(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Option<Located> {
    let (finding, _) = conflict(case.model, drop.packet.source)?;
    let came_in = drop.link.map(|link| case.link_name(link));
    let finding = finding.with_all(drop_evidence(case, Some(drop)));
    Some(Located { finding, place: case.place(direction, Stage::Routing, came_in) })
}

fn conflict<'a>(model: &Model<'a>, address: Ipv4Addr) -> Option<(Finding, &'a Link)> {
    model.pool_of(address)?;
    let local = model.sample.addresses.iter().find(|local| local.address == address)?;
    let device = model.link(local.link).filter(|device| !is_tunnel_link(device))?;
    let words = pod_words(model, address);
    let summary = format!("pod address {words} is also this node's own, on {}", device.name);
    let finding = finding(Cause::AddressConflict, SubjectKind::Address, address.to_string(), summary)
        .with(EvidenceSource::Link, format!("{} has {address}", device.name))
        .confirm(model.node_name(), format!("ip route get {address}; ip address show dev {}", device.name))
        .cure(
            model.node_name(),
            format!("ip address del {address} dev {}   # and where it is configured", device.name),
        );
    Some((finding, device))
}
