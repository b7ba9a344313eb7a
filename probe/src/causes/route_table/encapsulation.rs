//! Blocks that are reached bare where the others are tunnelled.

use std::net::Ipv4Addr;

use super::Fault;
use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model, Way,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{IpipMode, Route},
};

/// With Always every block is tunnelled, with `CrossSubnet` none of the own subnet: both in one subnet cannot be.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let tunnelled: Vec<(Ipv4Addr, &Row<'_>)> =
        by_way(rows, Way::Tunnel).map(|(_, hop, row)| (hop, row)).collect();
    let bare = by_way(rows, Way::Bare);
    bare.filter_map(|(place, next_hop, row)| {
        let found = against_the_pool(model, row).or_else(|| {
            let beside = tunnelled.iter().find(|(other, tunnelled)| {
                is_same_pool(model, row.route, tunnelled.route)
                    && share_a_network(model, rows, next_hop, *other)
            });
            beside.map(|(other, tunnelled)| beside_tunnelled(model, row, tunnelled, next_hop, *other))
        });
        found.map(|finding| Fault::of_row(place, finding))
    })
    .collect()
}

/// Rows that packets take to blocks of one other node.
fn by_way<'a>(rows: &'a [Row<'a>], wanted: Way) -> impl Iterator<Item = (usize, Ipv4Addr, &'a Row<'a>)> {
    rows.iter().enumerate().filter(|(_, row)| row.is_taken()).filter_map(move |(place, row)| {
        match &row.role {
            Role::RemoteBlock { next_hops, way } if *way == wanted => match next_hops.as_slice() {
                [next_hop] => Some((place, *next_hop, row)),
                _ => None,
            },
            _ => None,
        }
    })
}

fn is_same_pool(model: &Model<'_>, one: &Route, other: &Route) -> bool {
    let pool = |route: &Route| model.pool_around(route.destination).map(|pool| pool.cidr);
    pool(one).is_some() && pool(one) == pool(other)
}

/// Whether one network of this node holds both.
fn share_a_network(model: &Model<'_>, rows: &[Row<'_>], one: Ipv4Addr, other: Ipv4Addr) -> bool {
    rows.iter().any(|row| {
        let is_network = matches!(row.role, Role::NodeNetwork | Role::ConnectedNetwork);
        let network = row.route.destination;
        is_network && network.contains(&one) && network.contains(&other) && !model.uses_tunnel(row.route)
    })
}

fn against_the_pool(model: &Model<'_>, row: &Row<'_>) -> Option<Finding> {
    let pools = &model.sample.datastore.known()?.pools;
    let pool = pools.iter().find(|pool| pool.cidr.contains(&row.route.destination) && !pool.disabled)?;
    (pool.ipip == IpipMode::Always).then(|| {
        let block = row.route.destination;
        let summary =
            format!("the route to block {block} leaves bare, yet its pool {} is IPIP Always", pool.cidr);
        missing(model, row, summary)
            .with(EvidenceSource::File, format!("pool {}: ipipMode Always", pool.name))
    })
}

fn beside_tunnelled(
    model: &Model<'_>,
    row: &Row<'_>,
    tunnelled: &Row<'_>,
    next_hop: Ipv4Addr,
    other: Ipv4Addr,
) -> Finding {
    let block = row.route.destination;
    let summary = format!(
        "the route to block {block} leaves bare to {next_hop}, those to {other} of the same subnet are tunnelled"
    );
    missing(model, row, summary)
        .inferred()
        .with_severity(Severity::Warning)
        .with(EvidenceSource::Route, route_words(model, tunnelled.route))
}

fn missing(model: &Model<'_>, row: &Row<'_>, summary: String) -> Finding {
    let block = row.route.destination;
    finding(Cause::EncapsulationMissing, SubjectKind::Block, block.to_string(), summary)
        .with(EvidenceSource::Route, route_words(model, row.route))
        .confirm("kubectl", "kubectl get ippools.crd.projectcalico.org -o yaml | grep -e cidr: -e ipipMode:")
        .cure(
            model.node_name(),
            format!("ip route del {block}   # BIRD writes it again within 2 s, as the pool says now"),
        )
}
