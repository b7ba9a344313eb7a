//! Blocks with two owners, and blocks that a route refuses.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{Fault, destinations::Destinations};
use crate::{
    causes::{
        Cause,
        case::finding,
        routing::{kind_word, route_words, table_and_metric},
    },
    model::{
        Model, Way, is_calico_protocol,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Finding, SubjectKind},
    sample::{Route, RouteKind},
};

pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let remote = Destinations::of(rows, |row| {
        matches!(row.role, Role::RemoteBlock { .. } | Role::RemoteAddress { .. })
    });
    let mut faults = two_owners(model, rows);
    for (place, row) in rows.iter().enumerate() {
        faults.extend(several_next_hops(model, row).map(|finding| Fault::of_row(place, finding)));
        faults.extend(nested(model, rows, &remote, place));
        faults.extend(refused(model, &remote, row).map(|finding| Fault::of_row(place, finding)));
    }
    faults
}

fn conflict(model: &Model<'_>, block: Ipv4Net, summary: String) -> Finding {
    finding(Cause::BlockOwnerConflict, SubjectKind::Block, block.to_string(), summary)
        .confirm(
            "kubectl",
            format!("kubectl get blockaffinities.crd.projectcalico.org -o wide | grep {}", block.addr()),
        )
        .confirm(model.node_name(), "calicoctl ipam check")
}

/// Rows for one block that lead to different owners: two nodes, or this node and another.
fn two_owners(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let blocks =
        Destinations::of(rows, |row| matches!(row.role, Role::OwnBlock { .. } | Role::RemoteBlock { .. }));
    let mut faults: Vec<Fault> = blocks
        .shared()
        .filter_map(|(block, places)| {
            let roles: Vec<&Role> = places.iter().map(|place| &rows[*place].role).collect();
            let owners: Vec<String> = roles.iter().map(|role| owner(role)).collect();
            let first = owners.first()?;
            if owners.iter().all(|owner| owner == first) {
                return None;
            }
            let summary = format!("block {block} has two owners: {}", owners.join(" and "));
            let evidence = places.iter().map(|place| route_words(model, rows[*place].route));
            let finding = evidence.fold(conflict(model, block, summary), |finding, words| {
                finding.with(EvidenceSource::Route, words)
            });
            Some(Fault { finding, rows: places.to_vec() })
        })
        .collect();
    faults.sort_by(|one, other| one.rows.cmp(&other.rows));
    faults
}

fn owner(role: &Role) -> String {
    match role {
        Role::RemoteBlock { next_hops, .. } => {
            let hops: Vec<String> = next_hops.iter().map(ToString::to_string).collect();
            hops.join(" or ")
        }
        _ => "this node".to_owned(),
    }
}

/// One node owns a block; several next hops share its packets out to nodes that do not have the pods.
fn several_next_hops(model: &Model<'_>, row: &Row<'_>) -> Option<Finding> {
    let Role::RemoteBlock { way: Way::Tunnel, .. } = &row.role else { return None };
    shared_out(model, row.route)
}

/// The finding of a tunnel's route with more than one next hop.
pub fn shared_out(model: &Model<'_>, route: &Route) -> Option<Finding> {
    let next_hops: BTreeSet<_> = route.hops.iter().filter_map(|hop| hop.gateway).collect();
    (next_hops.len() > 1).then(|| {
        let block = route.destination;
        let summary = format!("block {block} has {} next hops, but one owner", next_hops.len());
        conflict(model, block, summary).with(EvidenceSource::Route, route_words(model, route))
    })
}

/// An own block inside another node's larger one. A route as large as the pool is no block, and neither is one that
/// Calico did not write.
fn nested(model: &Model<'_>, rows: &[Row<'_>], remote: &Destinations, place: usize) -> Option<Fault> {
    let own = rows.get(place).filter(|row| matches!(row.role, Role::OwnBlock { .. }))?;
    let block = own.route.destination;
    let pool = model.pool_around(block)?.cidr;
    let outer = remote.around(own.route.table, block.supernet()?).find(|place| {
        let larger = rows[*place].route;
        is_calico_protocol(larger.protocol) && larger.destination.prefix_len() > pool.prefix_len()
    })?;
    let larger = rows[outer].route;
    let summary = format!(
        "this node's block {block} lies in block {} of {}",
        larger.destination,
        owner(&rows[outer].role)
    );
    let finding = conflict(model, block, summary)
        .with(EvidenceSource::Route, route_words(model, own.route))
        .with(EvidenceSource::Route, route_words(model, larger));
    Some(Fault { finding, rows: vec![place, outer] })
}

/// A route that refuses a whole block, or a part of another node's, though nothing of it is here. Wider ones are
/// guards that give way to every block's own route.
fn refused(model: &Model<'_>, remote: &Destinations, row: &Row<'_>) -> Option<Finding> {
    let route = row.route;
    let destination = route.destination;
    let refuses = matches!(route.kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit);
    if row.role != Role::Refused || !refuses || !row.is_taken() {
        return None;
    }
    let pool = model.pool_around(destination)?.cidr;
    let is_block = destination == model.block_of(destination.addr());
    let is_of_another = remote.around(route.table, destination).next().is_some();
    if destination.prefix_len() <= pool.prefix_len() || !(is_block || is_of_another) {
        return None;
    }
    if route.kind == RouteKind::Blackhole && is_of_this_node(model, destination) {
        return None;
    }
    let kind = kind_word(route.kind);
    let part = if is_block { "block" } else { "a part of a block," };
    let summary = format!("the route to {part} {destination} is {kind}");
    let finding = finding(Cause::BlockRouteUnreachable, SubjectKind::Route, destination.to_string(), summary)
        .with(EvidenceSource::Route, route_words(model, route))
        .cure(model.node_name(), format!("ip route del {kind} {destination}{}", table_and_metric(route)));
    Some(finding)
}

/// Whether a network holds, or lies in, what this node has itself.
fn is_of_this_node(model: &Model<'_>, network: Ipv4Net) -> bool {
    model.pods_within(network) > 0
        || model.sample.addresses.iter().any(|local| network.contains(&local.address))
        || (network.prefix_len() < 32 && model.own_block(network.addr()).is_some())
}
