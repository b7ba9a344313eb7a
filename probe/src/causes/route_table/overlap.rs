//! Networks that have nothing to do with Calico, but lie among its pods' addresses.

use super::Fault;
use crate::{
    causes::{
        Cause,
        case::finding,
        routing::{overlap_cure, route_words},
    },
    model::{
        Model,
        pools::PoolSource,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
};

pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let foreign = rows.iter().enumerate().filter(|(_, row)| is_foreign(row) && row.is_taken());
    let mut faults = Vec::new();
    for (place, row) in foreign {
        let found = takes_over(model, rows, row).or_else(|| lies_in_a_pool(model, rows, row));
        faults.extend(found.map(|finding| Fault::of_row(place, finding)));
    }
    faults
}

fn is_foreign(row: &Row<'_>) -> bool {
    matches!(
        row.role,
        Role::NodeNetwork
            | Role::DockerNetwork
            | Role::LibvirtNetwork
            | Role::BridgeNetwork
            | Role::ConnectedNetwork
            | Role::NodeAddress
            | Role::RoutedNetwork
    )
}

/// More specific than one of Calico's rows, or preferred to it.
fn takes_over(model: &Model<'_>, rows: &[Row<'_>], row: &Row<'_>) -> Option<Finding> {
    let network = row.route.destination;
    let mut calico =
        rows.iter().filter(|other| other.role.is_of_pods() && other.route.table == row.route.table);
    let victim = calico.find(|other| {
        let theirs = other.route.destination;
        theirs.contains(&network) && (theirs != network || other.shadowed)
    })?;
    let summary = format!(
        "route {network} takes packets of {} {}",
        if victim.route.destination.prefix_len() == 32 { "pod" } else { "block" },
        victim.route.destination
    );
    Some(overlap(model, row, summary).with(EvidenceSource::Route, route_words(model, victim.route)))
}

/// Within a pool out of which there are pods: those that are yet to get these addresses cannot be reached. A pool
/// that nothing is in may be declared only so that its addresses are not masqueraded.
fn lies_in_a_pool(model: &Model<'_>, rows: &[Row<'_>], row: &Row<'_>) -> Option<Finding> {
    let network = row.route.destination;
    let pool = model.pool_around(network).filter(|pool| pool.source != PoolSource::Routes)?;
    let is_of_pool = |other: &Row<'_>| {
        other.role.is_of_pods()
            && model.pool_around(other.route.destination).is_some_and(|theirs| theirs.cidr == pool.cidr)
    };
    if !rows.iter().any(is_of_pool) {
        return None;
    }
    let summary = format!("route {network} lies in the pod pool {}", pool.cidr);
    let pool_words = format!("pool {} {}", pool.cidr, pool.source.words());
    Some(
        overlap(model, row, summary)
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Rule, pool_words)
            .confirm("kubectl", "kubectl get ippools.crd.projectcalico.org -o yaml"),
    )
}

fn overlap(model: &Model<'_>, row: &Row<'_>, summary: String) -> Finding {
    let route = row.route;
    let mut found = finding(Cause::RouteOverlap, SubjectKind::Route, route.destination.to_string(), summary)
        .with(EvidenceSource::Route, route_words(model, route));
    let device = route.hops.first().and_then(|hop| hop.link).and_then(|link| model.link(link));
    if let Some(device) = device {
        if !device.carrier {
            found = found.with(EvidenceSource::Link, format!("{} has no carrier", device.name));
        }
        if row.role != Role::NodeNetwork {
            found = found.cure(model.node_name(), overlap_cure(route, device));
        }
    }
    found
}
