//! Routes that are stale while their device is not: through the tunnel to a machine that is no node any more,
//! blackholes of blocks that nobody has, and second ways to a pod.

use std::net::Ipv4Addr;

use super::{Outcome, command, evidence, kept, subject};
use crate::{
    causes::{
        Cause,
        route_table::{next_hops, ownership},
        routing::route_words,
    },
    model::{
        Model, Way, is_calico_protocol,
        peers::is_vouched_for,
        rows::{self, Role, Row, Tables},
    },
    plan::{Action, Step},
    report::document::{Evidence, EvidenceSource, SubjectKind},
    sample::{NeighbourState, Part, Route},
};

pub fn judge(model: &Model<'_>) -> Vec<Outcome> {
    let parts = [Part::Routes, Part::RouteProtocols];
    if !parts.iter().all(|part| model.sample.holds(*part)) {
        return Vec::new();
    }
    let (rows, _) = rows::read(model, Tables::All);
    let mut outcomes: Vec<Outcome> = rows.iter().filter_map(|row| to_no_node(model, row)).collect();
    outcomes.extend(stale_blackholes(model, &rows));
    outcomes.extend(second_ways(model, &rows));
    outcomes
}

/// A route of the tunnel whose every next hop is certainly no node.
fn to_no_node(model: &Model<'_>, row: &Row<'_>) -> Option<Outcome> {
    let (Role::RemoteBlock { next_hops: hops, way: Way::Tunnel }
    | Role::RemoteAddress { next_hops: hops, way: Way::Tunnel, .. }) = &row.role
    else {
        return None;
    };
    let destination = row.route.destination;
    let block = format!("block {destination}");
    let gone = |next_hop: &Ipv4Addr| {
        !model.is_local(*next_hop) && next_hops::not_a_node(model, *next_hop, &block).is_some()
    };
    if hops.is_empty() || !hops.iter().all(gone) {
        return None;
    }
    let nodes = hops.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let why = format!("{block} leads to {nodes}, which is no node any more");
    if let Some(outcome) = of_calico(row.route, &why) {
        return Some(outcome);
    }
    let stay = |reason: &str| Some(Err(kept(of_route(row.route), format!("{why}; yet {reason}"), None)));
    if model.sample.bird.known().is_none() {
        return stay("BIRD was not asked whether it has a session there");
    }
    if hops.iter().any(|hop| is_vouched_for(model, *hop)) {
        return stay("BIRD or the datastore knows it");
    }
    if !hops.iter().all(|hop| is_silent(model, *hop)) {
        return stay("nothing shows that the machine is gone: its ARP entry has not failed");
    }
    let count = model.sample.sets.hosts.known().map_or(0, Vec::len);
    let proof = vec![
        evidence(EvidenceSource::Route, route_words(model, row.route)),
        evidence(EvidenceSource::Rule, format!("cali40all-hosts-net names {count} nodes, not {nodes}")),
        evidence(EvidenceSource::Bird, format!("BIRD has no session with {nodes}")),
        evidence(EvidenceSource::Neighbour, format!("{nodes} does not answer ARP")),
    ];
    let risk = format!("were pods of {destination} still behind {nodes}, this node would not reach them");
    Some(Ok(vec![step(model, row.route, why, proof, risk)]))
}

/// Nobody answers for the address on its own network.
fn is_silent(model: &Model<'_>, address: Ipv4Addr) -> bool {
    let entries = || model.sample.neighbours.iter().filter(|entry| entry.address == address);
    entries().any(|entry| entry.state == NeighbourState::Failed)
        && !entries().any(|entry| entry.hardware_address.is_some())
}

fn stale_blackholes(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Outcome> {
    ownership::judge(model, rows)
        .into_iter()
        .filter(|fault| fault.finding.cause == Cause::StaleBlackhole)
        .filter_map(|fault| {
            let route = rows.get(*fault.rows.first()?)?.route;
            let why = fault.finding.summary;
            if let Some(outcome) = of_calico(route, &why) {
                return Some(outcome);
            }
            let risk = format!(
                "were {} this node's block after all, packets for its pods that are gone would follow the default route",
                route.destination
            );
            Some(Ok(vec![step(model, route, why, fault.finding.evidence, risk)]))
        })
        .collect()
}

/// Of several rows to one pod, those that lead elsewhere than where it lives.
fn second_ways(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Outcome> {
    let to_pods = rows.iter().filter(|row| matches!(row.role, Role::LocalPod { .. }));
    to_pods
        .filter_map(|row| {
            let route = row.route;
            let address = route.destination.addr();
            let leads_by = model.link(model.pod_link_of(route)?)?;
            let inside = |link: u32| model.sample.pod_interfaces.iter().find(move |pod| pod.link == link);
            let has_it = |link: u32| inside(link).is_some_and(|pod| pod.addresses.contains(&address));
            // Who lives behind the one is known, and it is another; behind another row's device the pod itself is.
            let is_elsewhere = inside(leads_by.index).is_some() && !has_it(leads_by.index);
            let home = rows
                .iter()
                .filter(|other| {
                    other.route.destination == route.destination && other.route.table == route.table
                })
                .filter_map(|other| model.link(model.pod_link_of(other.route)?))
                .find(|link| has_it(link.index))?;
            if !is_elsewhere {
                return None;
            }
            let why = format!("pod {address} lives behind {}, not behind {}", home.name, leads_by.name);
            if let Some(outcome) = of_calico(route, &why) {
                return Some(outcome);
            }
            let proof = vec![
                evidence(EvidenceSource::Link, format!("the pod behind {} has {address}", home.name)),
                evidence(EvidenceSource::Route, route_words(model, route)),
            ];
            let risk = format!("none that shows: {} leads to the pod too", home.name);
            Some(Ok(vec![step(model, route, why, proof, risk)]))
        })
        .collect()
}

/// What Calico's own daemons wrote they put right, or would write again.
fn of_calico(route: &Route, why: &str) -> Option<Outcome> {
    is_calico_protocol(route.protocol).then(|| {
        let (owner, command) = match route.protocol {
            12 => ("BIRD", "birdcl show protocols; birdcl show route all   # who announces it?"),
            _ => ("Felix", "kubectl -n kube-system logs -l k8s-app=calico-node -c calico-node --tail 50"),
        };
        let why = format!("{why}; it is {owner}'s, which takes it away, or writes it again");
        Err(kept(of_route(route), why, Some(command.to_owned())))
    })
}

fn of_route(route: &Route) -> crate::report::document::Subject {
    subject(SubjectKind::Route, route.destination.to_string())
}

fn step(model: &Model<'_>, route: &Route, why: String, proof: Vec<Evidence>, risk: String) -> Step {
    let devices: Vec<Option<String>> = route
        .hops
        .iter()
        .map(|hop| hop.link.and_then(|link| model.link(link)).map(|link| link.name.clone()))
        .collect();
    let command = command::delete_route(route, &devices);
    let action = Action::DeleteRoute { route: route.clone(), devices };
    Step { action, subject: of_route(route), why, proof, risk, command }
}
