//! The rows of this node's pods against their interfaces, as seen from both ends.

use std::{collections::HashMap, net::Ipv4Addr};

use super::{Fault, leftovers};
use crate::{
    causes::{
        Cause,
        case::finding,
        pod::{link_down, pod_words, route_missing},
        routing::route_words,
    },
    model::{
        Model,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Finding, SubjectKind},
    sample::{Link, NeighbourState, PodInterface},
};

/// The pods that were looked into, by the device on this side.
struct Inside<'a> {
    by_link: HashMap<u32, &'a PodInterface>,
}

impl<'a> Inside<'a> {
    fn new(model: &Model<'a>) -> Self {
        Self { by_link: model.sample.pod_interfaces.iter().map(|pod| (pod.link, pod)).collect() }
    }

    /// The device behind which a pod has this address.
    fn home_of(&self, address: Ipv4Addr) -> Option<u32> {
        let mut pods = self.by_link.values();
        pods.find(|pod| pod.addresses.contains(&address)).map(|pod| pod.link)
    }
}

pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let inside = Inside::new(model);
    let mut faults = Vec::new();
    for (place, row) in rows.iter().enumerate().filter(|(_, row)| matches!(row.role, Role::LocalPod { .. })) {
        let Some(device) = model.pod_link_of(row.route).and_then(|link| model.link(link)) else { continue };
        let of_another = of_another_pod(model, &inside, row, device);
        let found = if leftovers::is_leftover(model, device) {
            of_another
        } else {
            without_carrier(model, row, device)
                .or(of_another)
                .or_else(|| address_of_the_node(model, row))
                .or_else(|| silent(model, row, device))
        };
        faults.extend(found.map(|finding| Fault::of_row(place, finding)));
    }
    faults.extend(without_route(model, &inside).map(Fault::of_no_row));
    faults
}

fn address_of(row: &Row<'_>) -> Ipv4Addr {
    row.route.destination.addr()
}

fn without_carrier(model: &Model<'_>, row: &Row<'_>, device: &Link) -> Option<Finding> {
    let state = match (device.up, device.carrier) {
        (false, _) => "is set down",
        (true, false) => "has no carrier: the pod's end is down",
        (true, true) => return None,
    };
    (!row.shadowed).then(|| {
        link_down(model, address_of(row), device, state)
            .with(EvidenceSource::Route, route_words(model, row.route))
    })
}

/// The pod of this address lives behind another device.
fn of_another_pod(model: &Model<'_>, inside: &Inside<'_>, row: &Row<'_>, device: &Link) -> Option<Finding> {
    let address = address_of(row);
    let behind = inside.by_link.get(&device.index)?;
    if row.shadowed || behind.addresses.contains(&address) {
        return None;
    }
    let home = model.link(inside.home_of(address)?)?;
    let summary = format!(
        "the route of pod {} leads to {}, but the pod lives behind {}",
        pod_words(model, address),
        device.name,
        home.name
    );
    let finding = finding(Cause::StalePodRoute, SubjectKind::Route, format!("{address}/32"), summary)
        .with(EvidenceSource::Link, format!("the pod behind {} has {address}", home.name))
        .with(EvidenceSource::Route, route_words(model, row.route))
        .stopgap(
            model.node_name(),
            format!(
                "ip route replace {address}/32 dev {} scope link   # Felix keeps it if it knows the pod",
                home.name
            ),
        );
    Some(finding)
}

/// A pod that runs answers ARP; one whose end is down, or that is gone from behind this device, does not.
fn silent(model: &Model<'_>, row: &Row<'_>, device: &Link) -> Option<Finding> {
    let address = address_of(row);
    let mut entries = model.sample.neighbours.iter();
    let is_failed = entries.any(|entry| {
        entry.link == device.index && entry.address == address && entry.state == NeighbourState::Failed
    });
    (is_failed && !row.shadowed).then(|| {
        link_down(
            model,
            address,
            device,
            "is up, yet the pod does not answer ARP: its end is down, or it lives elsewhere",
        )
        .inferred()
        .with(EvidenceSource::Neighbour, format!("{address} dev {} is failed", device.name))
        .with(EvidenceSource::Route, route_words(model, row.route))
    })
}

/// The table of local addresses comes first, so the pod's row is never reached.
fn address_of_the_node(model: &Model<'_>, row: &Row<'_>) -> Option<Finding> {
    let address = address_of(row);
    let local = model.sample.addresses.iter().find(|local| local.address == address)?;
    let device = model.link(local.link).map_or("a device", |link| link.name.as_str());
    let summary = format!("the address of pod {} is also this node's own", pod_words(model, address));
    let finding = finding(Cause::AddressConflict, SubjectKind::Address, address.to_string(), summary)
        .with(EvidenceSource::Link, format!("{device} has {address}"))
        .with(EvidenceSource::Route, route_words(model, row.route))
        .confirm(model.node_name(), format!("ip address show to {address}/32"));
    Some(finding)
}

/// Pods that have an address, but no row leads to their device.
fn without_route<'a>(model: &'a Model<'_>, inside: &'a Inside<'_>) -> impl Iterator<Item = Finding> + 'a {
    model.pod_links_without_route().filter_map(move |device| {
        let pod = inside.by_link.get(&device.index).filter(|_| !leftovers::is_leftover(model, device))?;
        let address = pod.addresses.iter().copied().find(|address| model.pod(*address).is_none())?;
        let proof = format!("the pod behind {} has {address} on its {}", device.name, pod.name);
        let found = if device.up {
            route_missing(model, address, device)
        } else {
            link_down(model, address, device, "is set down, so its route is gone")
        };
        Some(found.with(EvidenceSource::Link, proof))
    })
}
