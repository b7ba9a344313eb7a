//! What only one node may have: its name, its address, its tunnel's address, and its pods' addresses.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{Cluster, Node, Seen, list, node::Machine};
use crate::{
    causes::{Cause, case::finding},
    report::document::{EvidenceSource, Finding, NotSeen, Severity, SubjectKind},
};

/// Of several looks at one machine the newest; what has no time counts as given later.
pub fn newest(nodes: Vec<Node>) -> (Vec<Node>, Vec<NotSeen>) {
    let mut kept: Vec<Node> = Vec::new();
    let mut not_seen = Vec::new();
    // Only nodes that share something may be one machine.
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by_address: BTreeMap<Ipv4Addr, Vec<usize>> = BTreeMap::new();
    for node in nodes {
        let alike =
            by_name.get(&node.name).into_iter().chain(node.address.and_then(|own| by_address.get(&own)));
        let before = alike
            .flatten()
            .copied()
            .find(|place| kept.get(*place).is_some_and(|other| is_one_machine(other, &node)));
        let place = before.unwrap_or(kept.len());
        by_name.entry(node.name.clone()).or_default().push(place);
        if let Some(own) = node.address {
            by_address.entry(own).or_default().push(place);
        }
        match kept.get_mut(place) {
            Some(other) => {
                let (old, new) = if time(&node) >= time(other) {
                    (std::mem::replace(other, node), &*other)
                } else {
                    (node, &*other)
                };
                not_seen.push(NotSeen {
                    what: format!("{} {}", old.words(), moment(&old)),
                    why: format!("it is the same machine as {} {}, which is used", new.words(), moment(new)),
                });
            }
            None => kept.push(node),
        }
    }
    (kept, not_seen)
}

fn time(node: &Node) -> Option<jiff::Timestamp> {
    match &node.seen {
        Seen::Saved { time, .. } => Some(*time),
        Seen::Pasted { .. } => None,
    }
}

fn moment(node: &Node) -> String {
    match &node.seen {
        Seen::Saved { time, .. } => format!("at {time}"),
        Seen::Pasted { from } => format!("in {from}"),
    }
}

fn machine(node: &Node) -> Option<&Machine> {
    match &node.seen {
        Seen::Saved { machine, .. } => machine.as_ref(),
        Seen::Pasted { .. } => None,
    }
}

/// Whether two looks are certainly, or where nobody says it most likely, at one machine.
fn is_one_machine(one: &Node, other: &Node) -> bool {
    if let (Seen::Pasted { from }, Seen::Pasted { from: place }) = (&one.seen, &other.seen)
        && !from.is_empty()
        && from == place
    {
        return true;
    }
    let same_address = one.address.is_some() && one.address == other.address;
    match (machine(one), machine(other)) {
        (Some(machine), Some(other_machine)) if machine == other_machine => true,
        // It may have been started anew in between.
        (Some(machine), Some(other_machine)) => {
            machine.boot_id != other_machine.boot_id
                && one.name == other.name
                && (same_address || one.address.is_none() || other.address.is_none())
        }
        _ => same_address || (one.name == other.name && (one.address.is_none() || other.address.is_none())),
    }
}

pub fn judge(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let mut found = Vec::new();
    for (name, places) in shared(cluster, |node| {
        // Of what was pasted the name is a folder's.
        matches!(node.seen, Seen::Saved { .. }).then(|| node.name.clone()).into_iter().collect()
    }) {
        let with: Vec<String> = words(cluster, &places, |node| {
            node.address.map_or_else(|| "no address".to_owned(), |address| address.to_string())
        });
        found.extend(each(cluster, &places, |node| {
            finding(
                Cause::NodeNameChanged,
                SubjectKind::Node,
                &name,
                format!("{} machines carry the name {name}: {}", places.len(), list(&with)),
            )
            .with(EvidenceSource::File, format!("{}: its name is {name}", node.words()))
            .confirm("kubectl", "calicoctl get nodes -o wide   # one node for each machine?")
            .confirm(&node.name, "cat /var/lib/calico/nodename; hostname")
        }));
    }
    for (address, places) in shared(cluster, |node| node.address.into_iter().collect()) {
        let names = words(cluster, &places, |node| node.name.clone());
        found.extend(each(cluster, &places, |node| {
            finding(
                Cause::NodeAddressDuplicate,
                SubjectKind::Address,
                address.to_string(),
                format!("{} have one node address, {address}", list(&names)),
            )
            .with(EvidenceSource::Link, format!("{}: {address} is on one of its devices", node.name))
            .confirm("any other node", format!("arping -c 3 -I DEVICE {address}   # how many answer?"))
        }));
    }
    for (address, places) in shared(cluster, |node| node.tunnel_addresses.iter().copied().collect()) {
        let names = words(cluster, &places, |node| node.name.clone());
        found.extend(each(cluster, &places, |node| {
            finding(
                Cause::AddressConflict,
                SubjectKind::Address,
                address.to_string(),
                format!(
                    "tunl0 has {address} on {}: what one host sends to pods is answered to the other",
                    list(&names)
                ),
            )
            .with(EvidenceSource::Link, format!("{}: tunl0 has {address}", node.name))
            .confirm("kubectl", "kubectl get nodes -o yaml | grep -e 'name: ' -e IPv4IPIPTunnelAddr")
        }));
    }
    for (address, places) in shared(cluster, |node| node.pods.iter().copied().collect()) {
        let names = words(cluster, &places, |node| node.name.clone());
        found.extend(each(cluster, &places, |node| {
            finding(
                Cause::AddressConflict,
                SubjectKind::Address,
                address.to_string(),
                format!("{} each have a pod with {address}", list(&names)),
            )
            .inferred()
            .with_severity(Severity::Warning)
            .with(EvidenceSource::Route, format!("{}: a /32 leads to a pod of its own", node.name))
            .confirm("kubectl", format!("kubectl get pods -A -o wide | grep -w {address}"))
        }));
    }
    found
}

/// What several nodes have, with their places.
fn shared<T: Ord + Clone>(cluster: &Cluster<'_>, of: impl Fn(&Node) -> Vec<T>) -> Vec<(T, Vec<usize>)> {
    let mut by_value: BTreeMap<T, Vec<usize>> = BTreeMap::new();
    for (place, node) in &cluster.nodes {
        for value in of(node) {
            by_value.entry(value).or_default().push(*place);
        }
    }
    by_value.into_iter().filter(|(_, places)| places.len() > 1).collect()
}

fn words(cluster: &Cluster<'_>, places: &[usize], of: impl Fn(&Node) -> String) -> Vec<String> {
    places.iter().filter_map(|place| cluster.node(*place)).map(of).collect()
}

/// One finding for each of them, held against the first that is not it.
fn each<'a>(
    cluster: &'a Cluster<'_>,
    places: &'a [usize],
    say: impl Fn(&Node) -> Finding + 'a,
) -> impl Iterator<Item = (usize, Finding)> + 'a {
    places.iter().filter_map(move |place| {
        let node = cluster.node(*place)?;
        let other = cluster.node(*places.iter().find(|other| *other != place)?)?;
        Some((*place, say(node).between(node, other)))
    })
}
