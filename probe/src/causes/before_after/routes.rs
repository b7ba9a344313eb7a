//! Routes that went, came or changed.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Change, Happened, Meaning, devices::same_device, meant::Meant};
use crate::{
    causes::{route_table::is_leftover, routing::route_words},
    model::{
        LocalPod, Model,
        peers::is_vouched_for,
        routing::{Decision, Flow, look_up},
        rows::{self, Role, Row, Tables},
    },
    report::document::SubjectKind,
    sample::{Hop, Route},
};

/// What makes a route the same one in two looks (`fib_create_info`, `fib_table_insert`).
type RouteKey = (u32, Ipv4Net, u8, u32);

fn key(route: &Route) -> RouteKey {
    (route.table, route.destination, route.tos, route.metric)
}

/// Rows by their keys; several may have one key.
type Rows<'r, 'a> = BTreeMap<RouteKey, Vec<&'r Row<'a>>>;

pub fn judge(before: &Model<'_>, after: &Model<'_>, meant: &Meant<'_>) -> Vec<Change> {
    let (rows_before, _) = rows::read(before, Tables::All);
    let (rows_after, _) = rows::read(after, Tables::All);
    let (old, new) = (by_key(&rows_before), by_key(&rows_after));
    let mut changes = Vec::new();
    for (key, was) in &old {
        let is = new.get(key).map_or(&[][..], Vec::as_slice);
        let (was, is) = without_same(before, after, was, is);
        let count = was.len().min(is.len());
        changes.extend(was.iter().zip(&is).map(|(was, is)| changed(before, after, was, is)));
        changes.extend(was[count..].iter().map(|row| went(before, after, row, meant)));
        changes.extend(is[count..].iter().map(|row| came(after, row)));
    }
    let only_new = new.iter().filter(|(key, _)| !old.contains_key(*key));
    changes.extend(only_new.flat_map(|(_, rows)| rows).map(|row| came(after, row)));
    changes
}

fn by_key<'r, 'a>(rows: &'r [Row<'a>]) -> Rows<'r, 'a> {
    let mut by_key = Rows::new();
    for row in rows {
        by_key.entry(key(row.route)).or_default().push(row);
    }
    by_key
}

/// Those of one key that are not the same in the other look.
fn without_same<'r, 'a, 'b>(
    before: &Model<'_>,
    after: &Model<'_>,
    was: &[&'r Row<'a>],
    is: &[&'r Row<'b>],
) -> (Vec<&'r Row<'a>>, Vec<&'r Row<'b>>) {
    let mut left: Vec<&Row<'b>> = is.to_vec();
    let mut changed = Vec::new();
    for row in was {
        let there = |other: &&Row<'b>| is_same(before, row.route, after, other.route);
        match left.iter().position(there) {
            Some(place) => drop(left.remove(place)),
            None => changed.push(*row),
        }
    }
    (changed, left)
}

/// Whether two routes are one: devices have other indices once they were made anew, and the kernel finds out for itself
/// whether a device is down.
pub fn is_same(before: &Model<'_>, was: &Route, after: &Model<'_>, is: &Route) -> bool {
    let given = |model: &Model<'_>, route: &Route| {
        let hop = |hop: &Hop| {
            let name = hop.link.and_then(|link| model.link(link)).map(|link| link.name.clone());
            (name, Hop { link: None, dead: false, link_down: false, ..hop.clone() })
        };
        let hops: Vec<_> = route.hops.iter().map(hop).collect();
        (hops, Route { hops: Vec::new(), ..route.clone() })
    };
    given(before, was) == given(after, is)
}

fn subject(row: &Row<'_>) -> (SubjectKind, String) {
    let destination = row.route.destination;
    match row.role {
        Role::LocalPod { .. } => (SubjectKind::Pod, destination.addr().to_string()),
        Role::OwnBlock { .. } | Role::RemoteBlock { .. } => (SubjectKind::Block, destination.to_string()),
        _ => (SubjectKind::Route, destination.to_string()),
    }
}

fn came(after: &Model<'_>, row: &Row<'_>) -> Change {
    let text = route_words(after, row.route);
    Change::new((Happened::Came, Meaning::Harmless), subject(row), format!("{text} came"))
}

fn went(before: &Model<'_>, after: &Model<'_>, row: &Row<'_>, meant: &Meant<'_>) -> Change {
    let text = route_words(before, row.route);
    let (meaning, why) = match &row.role {
        Role::LocalPod { .. } => pod_went(before, after, row.route),
        Role::RemoteBlock { next_hops, .. } | Role::RemoteAddress { next_hops, .. } => {
            remote_went(after, row.route.destination, next_hops)
        }
        Role::OwnBlock { .. } if after.pods_within(row.route.destination) > 0 => {
            (Meaning::Unknown, "pods of this block are still here: who announces it?".to_owned())
        }
        Role::DefaultRoute if after.tables.default_route().is_none() => {
            (Meaning::Regression, "no default route is left".to_owned())
        }
        _ => (Meaning::Harmless, "no pod was reached by it".to_owned()),
    };
    let meaning = if meant.names_route(before, row.route) { meant_or(meaning) } else { meaning };
    Change::new((Happened::Went, meaning), subject(row), format!("{text} went: {why}"))
}

/// That a plan says so makes no loss a good thing.
pub fn meant_or(meaning: Meaning) -> Meaning {
    if meaning == Meaning::Regression { meaning } else { Meaning::Meant }
}

fn pod_went(before: &Model<'_>, after: &Model<'_>, route: &Route) -> (Meaning, String) {
    let address = route.destination.addr();
    if after.is_local_pod(address) {
        return (Meaning::Harmless, "another route leads to the pod".to_owned());
    }
    let link = before.pod_link_of(route).and_then(|link| before.link(link));
    let now = link.and_then(|link| same_device(before, link, after));
    let is_left_over = link.is_some_and(|link| is_leftover(before, link))
        || now.is_some_and(|link| is_leftover(after, link));
    if is_left_over {
        return (Meaning::Harmless, "no pod is behind it any more".to_owned());
    }
    if let Some(link) = now {
        return (Meaning::Regression, format!("its interface {} is still here", link.name));
    }
    let results = after.sample.cni_results.known();
    let named =
        results.is_some_and(|results| results.iter().any(|result| result.addresses.contains(&address)));
    if named {
        return (Meaning::Regression, "the container runtime still has this pod".to_owned());
    }
    if let Some(node) = after.tunnel_next_hop(address).or_else(|| after.bare_next_hop(address)) {
        return (Meaning::Harmless, format!("its interface went too; {node} has the address now"));
    }
    (Meaning::Harmless, "its interface went too: the pod ended".to_owned())
}

/// Whether an address was a pod's of this node, and that pod has ended.
pub fn is_of_ended_pod(before: &Model<'_>, after: &Model<'_>, address: Ipv4Addr) -> bool {
    let pod = before.pod(address).filter(|_| !after.is_local_pod(address));
    pod.is_some_and(|pod| pod_went(before, after, pod.route).0 == Meaning::Harmless)
}

fn remote_went(after: &Model<'_>, destination: Ipv4Net, next_hops: &[Ipv4Addr]) -> (Meaning, String) {
    if let Some(way) = reached(after, destination.network()) {
        return (Meaning::Harmless, way);
    }
    let hosts = after.sample.sets.hosts.known().filter(|hosts| !hosts.is_empty());
    let left =
        hosts.is_some_and(|hosts| !next_hops.iter().any(|node| hosts.iter().any(|host| host.contains(node))));
    if left && !next_hops.is_empty() {
        return (Meaning::Harmless, "its node is none of the cluster any more".to_owned());
    }
    let nodes: Vec<String> = next_hops.iter().map(Ipv4Addr::to_string).collect();
    (Meaning::Regression, format!("nothing leads to the pods of {} any more", nodes.join(" and ")))
}

/// How an address is reached now, where it is.
fn reached(after: &Model<'_>, address: Ipv4Addr) -> Option<String> {
    let flow = Flow { source: None, destination: address, input_link: None, mark: 0, tos: 0 };
    if let Some(LocalPod { link, .. }) = after.pod(address) {
        return after.link(link).map(|link| format!("it is behind {} of this node now", link.name));
    }
    let Decision::Route { route, .. } = look_up(after, &flow) else { return None };
    if after.own_block(address).is_some() {
        return Some("the block is this node's own now".to_owned());
    }
    let leads_there =
        after.way_to_remote_pods(route).is_some() && after.pool_around(route.destination).is_some();
    leads_there.then(|| format!("{} leads there", route_words(after, route)))
}

fn changed(before: &Model<'_>, after: &Model<'_>, was: &Row<'_>, is: &Row<'_>) -> Change {
    let (old, new) = (route_words(before, was.route), route_words(after, is.route));
    let what = if old == new { format!("{new} changed") } else { format!("{new} was {old}") };
    let (meaning, why) = match (&was.role, &is.role) {
        (
            Role::RemoteBlock { next_hops: old, .. } | Role::RemoteAddress { next_hops: old, .. },
            Role::RemoteBlock { next_hops: new, .. } | Role::RemoteAddress { next_hops: new, .. },
        ) => next_hops_changed(after, is.route.destination, old, new),
        // Another pod's interface is a fault of its own, which is judged as such.
        (_, Role::LocalPod { .. })
        | (Role::RemoteBlock { .. } | Role::RemoteAddress { .. }, Role::OwnBlock { .. }) => {
            (Meaning::Harmless, None)
        }
        (was, _) if was.is_calico() => (Meaning::Regression, None),
        _ => (Meaning::Harmless, None),
    };
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    Change::new((Happened::Changed, meaning), subject(was), format!("{what}{why}"))
}

/// Whether the node to which a block is sent now is the one that has it, by whoever knows: BIRD, then the datastore.
fn next_hops_changed(
    after: &Model<'_>,
    destination: Ipv4Net,
    old: &[Ipv4Addr],
    new: &[Ipv4Addr],
) -> (Meaning, Option<String>) {
    if old == new {
        return (Meaning::Harmless, None);
    }
    if let Some(owners) = announced_by(after, destination) {
        let words: Vec<String> = owners.iter().map(Ipv4Addr::to_string).collect();
        let words = words.join(" and ");
        return if new.iter().all(|hop| owners.contains(hop)) {
            (Meaning::Harmless, Some(format!("BIRD has it from {words}")))
        } else {
            (Meaning::Regression, Some(format!("BIRD has it from {words}")))
        };
    }
    if let Some((node, address)) = owner_in_datastore(after, destination) {
        let meaning = if new.contains(&address) { Meaning::Harmless } else { Meaning::Regression };
        return (meaning, Some(format!("the datastore gives the block to {node} ({address})")));
    }
    let stranger = new.iter().find(|hop| !is_known_node(after, **hop));
    let why = match stranger {
        Some(hop) => format!("nothing here says that {hop} is a node"),
        None => "neither BIRD nor the datastore was asked which node has the block".to_owned(),
    };
    (Meaning::Unknown, Some(why))
}

/// The next hops that peers announced for a network; `None` where BIRD does not tell, or has no such route.
fn announced_by(after: &Model<'_>, destination: Ipv4Net) -> Option<Vec<Ipv4Addr>> {
    let routes = after.sample.bird.known()?.routes.known()?;
    let best =
        routes.iter().filter(|route| route.destination == destination && (route.best || route.refused));
    let hops: Vec<Ipv4Addr> = best.filter_map(|route| route.next_hop).collect();
    (!hops.is_empty()).then_some(hops)
}

fn owner_in_datastore<'a>(after: &Model<'a>, block: Ipv4Net) -> Option<(&'a str, Ipv4Addr)> {
    let datastore = after.sample.datastore.known()?;
    let affinity = datastore.affinities.iter().find(|affinity| affinity.block == block)?;
    let node = datastore.nodes.iter().find(|node| node.name == affinity.node)?;
    Some((&node.name, node.address?.addr()))
}

/// Whether something other than the changed route says that an address is a node's.
fn is_known_node(after: &Model<'_>, address: Ipv4Addr) -> bool {
    let hosts = after.sample.sets.hosts.known();
    let in_set = hosts.is_some_and(|hosts| hosts.iter().any(|host| host.contains(&address)));
    in_set || is_vouched_for(after, address)
}
