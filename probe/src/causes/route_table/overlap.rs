//! Networks that have nothing to do with Calico, but lie among its pods' addresses.

use std::collections::HashSet;

use ipnet::Ipv4Net;

use super::{Fault, destinations::Destinations};
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
    let calico = Destinations::of(rows, |row| row.role.is_calico());
    let used = used_pools(model, rows);
    let foreign = rows.iter().enumerate().filter(|(_, row)| is_foreign(row) && row.is_taken());
    let mut faults = Vec::new();
    for (place, row) in foreign {
        let found = takes_over(model, rows, &calico, row).or_else(|| lies_in_a_pool(model, &used, row));
        faults.extend(found.map(|finding| Fault::of_row(place, finding)));
    }
    faults
}

/// Pools that Calico's rows are of, by table.
fn used_pools(model: &Model<'_>, rows: &[Row<'_>]) -> HashSet<(u32, Ipv4Net)> {
    let calico = rows.iter().filter(|row| row.role.is_calico());
    calico.filter_map(|row| Some((row.route.table, model.pool_around(row.route.destination)?.cidr))).collect()
}

/// A single address on a device may be a workload's whose interfaces are not named `cali*`.
fn is_foreign(row: &Row<'_>) -> bool {
    match row.role {
        Role::NodeNetwork
        | Role::DockerNetwork
        | Role::LibvirtNetwork
        | Role::BridgeNetwork
        | Role::NodeAddress
        | Role::RoutedNetwork => true,
        Role::ConnectedNetwork => row.route.destination.prefix_len() < 32,
        _ => false,
    }
}

/// More specific than one of Calico's rows, or preferred to it.
fn takes_over(model: &Model<'_>, rows: &[Row<'_>], calico: &Destinations, row: &Row<'_>) -> Option<Finding> {
    let network = row.route.destination;
    let mut around = calico.around(row.route.table, network).map(|place| &rows[place]);
    let victim = around.find(|other| other.route.destination != network || other.shadowed)?;
    let theirs = victim.route.destination;
    let what = if theirs.prefix_len() == 32 { "pod" } else { "block" };
    let summary = format!("route {network} takes packets of {what} {theirs}");
    Some(overlap(model, row, summary).with(EvidenceSource::Route, route_words(model, victim.route)))
}

/// Within a pool out of which there are pods: those that are yet to get these addresses cannot be reached. A pool
/// that nothing is in may be declared only so that its addresses are not masqueraded.
fn lies_in_a_pool(model: &Model<'_>, used: &HashSet<(u32, Ipv4Net)>, row: &Row<'_>) -> Option<Finding> {
    let network = row.route.destination;
    let pool = model.pool_around(network).filter(|pool| pool.source != PoolSource::Routes)?;
    if !used.contains(&(row.route.table, pool.cidr)) {
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
