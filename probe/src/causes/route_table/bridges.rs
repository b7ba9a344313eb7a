//! Bridges of container networks that nothing uses any more. They are suspected when the pod network fails, and seldom
//! to blame: one whose network lies among the pods' is a route overlap.

use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model,
        rows::{Role, Row, is_docker_bridge},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::Link,
};

/// Bridges of Docker's networks without a carrier that hold a route outside every pool. `docker0` is there by right.
pub fn idle(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Finding> {
    let rows = rows.iter().filter(|row| matches!(row.role, Role::DockerNetwork));
    rows.filter_map(|row| {
        let device = row.route.hops.first()?.link.and_then(|link| model.link(link))?;
        let is_outside = model.pools.iter().all(|pool| {
            !pool.cidr.contains(&row.route.destination) && !row.route.destination.contains(&pool.cidr)
        });
        (is_docker_bridge(&device.name) && !device.carrier && !has_ports(model, device) && is_outside)
            .then(|| bridge(model, row, device))
    })
    .collect()
}

fn has_ports(model: &Model<'_>, bridge: &Link) -> bool {
    model.sample.links.iter().any(|link| link.master == Some(bridge.index))
}

fn bridge(model: &Model<'_>, row: &Row<'_>, device: &Link) -> Finding {
    let name = &device.name;
    let network = row.route.destination;
    let summary = format!(
        "{name} is an idle bridge of Docker; its network {network} lies outside the pods', so it is not the cause"
    );
    let id = name.trim_start_matches("br-");
    finding(Cause::StaleBridge, SubjectKind::Interface, name, summary)
        .inferred()
        .with_severity(Severity::Info)
        .with(EvidenceSource::Link, format!("{name} has no carrier: no port of it is up"))
        .with(EvidenceSource::Route, route_words(model, row.route))
        .confirm(model.node_name(), format!("docker network inspect {id}"))
}
