//! Blocks that are reached bare where the others are tunnelled.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::Fault;
use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model, Way,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::IpipMode,
};

/// With Always every block is tunnelled, with `CrossSubnet` none of the own subnet: both in one subnet cannot be.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let networks = Networks::of(model, rows);
    let mut tunnelled: HashMap<(Ipv4Net, Ipv4Net), (Ipv4Addr, &Row<'_>)> = HashMap::new();
    for (_, next_hop, row) in by_way(rows, Way::Tunnel) {
        if let Some(key) = pool_and_network(model, &networks, row, next_hop) {
            tunnelled.entry(key).or_insert((next_hop, row));
        }
    }
    let bare = by_way(rows, Way::Bare);
    bare.filter_map(|(place, next_hop, row)| {
        let found = against_the_pool(model, row).or_else(|| {
            let (other, beside) = tunnelled.get(&pool_and_network(model, &networks, row, next_hop)?)?;
            Some(beside_tunnelled(model, row, beside, next_hop, *other))
        });
        found.map(|finding| Fault::of_row(place, finding))
    })
    .collect()
}

/// The pool that a block is of, and the network of this node that its next hop is in.
fn pool_and_network(
    model: &Model<'_>,
    networks: &Networks,
    row: &Row<'_>,
    next_hop: Ipv4Addr,
) -> Option<(Ipv4Net, Ipv4Net)> {
    Some((model.pool_around(row.route.destination)?.cidr, networks.around(next_hop)?))
}

/// The networks in which this node reaches others without a router.
struct Networks(HashSet<Ipv4Net>);

impl Networks {
    fn of(model: &Model<'_>, rows: &[Row<'_>]) -> Self {
        let is_network = |row: &&Row<'_>| matches!(row.role, Role::NodeNetwork | Role::ConnectedNetwork);
        let connected = rows.iter().filter(is_network).filter(|row| !model.uses_tunnel(row.route));
        Self(connected.map(|row| row.route.destination).collect())
    }

    fn around(&self, address: Ipv4Addr) -> Option<Ipv4Net> {
        let around = std::iter::successors(Some(Ipv4Net::from(address)), Ipv4Net::supernet);
        around.take_while(|network| network.prefix_len() > 0).find(|network| self.0.contains(network))
    }
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
