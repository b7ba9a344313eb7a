//! Whether the nodes are of one cluster: nodes of two know nothing of each other, and are not held against each other.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{Node, list};
use crate::report::document::NotSeen;

/// Places of the nodes that know each other, directly or by others; the largest first. Nodes that show nothing of
/// others are with the largest.
pub fn find(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut groups = Groups((0..nodes.len()).collect());
    let mut by_address: HashMap<Ipv4Addr, Vec<usize>> = HashMap::new();
    let mut by_block: HashMap<Ipv4Net, Vec<usize>> = HashMap::new();
    for (place, node) in nodes.iter().enumerate() {
        for address in node.addresses.iter().chain(&node.address) {
            by_address.entry(*address).or_default().push(place);
        }
        for block in &node.own_blocks {
            by_block.entry(*block).or_default().push(place);
        }
    }
    for (place, node) in nodes.iter().enumerate() {
        let hosts = node.hosts.iter().flatten().filter(|host| host.prefix_len() == 32).map(Ipv4Net::addr);
        let peers = node.sessions.iter().flat_map(|sessions| sessions.keys().copied());
        let gateways = node.ways.values().flat_map(|way| way.gateways.iter().copied());
        let known = hosts.chain(peers).chain(gateways).filter_map(|address| by_address.get(&address));
        // Two clusters may have equal blocks: only where no address tells is a node known by these.
        let blocks = node.ways.keys().filter_map(|block| by_block.get(block)).filter(|owners| {
            owners.iter().all(|owner| nodes.get(*owner).is_some_and(|owner| owner.addresses.is_empty()))
        });
        for other in known.chain(blocks).flatten() {
            groups.join(place, *other);
        }
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for place in 0..nodes.len() {
        parts.entry(groups.root(place)).or_default().push(place);
    }
    let mut parts: Vec<Vec<usize>> = parts.into_values().collect();
    parts.sort_by_key(|places| std::cmp::Reverse(places.len()));
    let (mut parts, silent): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .partition(|places| places.iter().filter_map(|place| nodes.get(*place)).any(knows_others));
    match parts.first_mut() {
        Some(first) => {
            first.extend(silent.into_iter().flatten());
            first.sort_unstable();
            parts
        }
        None => vec![silent.into_iter().flatten().collect()],
    }
}

/// Whether a node shows any other, of this cluster or of another.
fn knows_others(node: &Node) -> bool {
    let is_other = |host: &&Ipv4Net| !node.addresses.contains(&host.addr());
    !node.ways.is_empty()
        || node.hosts.iter().flatten().any(|host| is_other(&host))
        || node.sessions.as_ref().is_some_and(|sessions| !sessions.is_empty())
}

/// Says that there are several.
pub fn mixed(nodes: &[Node], parts: &[Vec<usize>]) -> Option<NotSeen> {
    (parts.len() > 1).then(|| {
        let words = parts.iter().map(|places| {
            let names: Vec<&str> =
                places.iter().filter_map(|place| nodes.get(*place)).map(|node| node.name.as_str()).collect();
            list(&names)
        });
        NotSeen {
            what: format!("{} groups of nodes next to each other", parts.len()),
            why: format!(
                "they know nothing of each other, so they are of several clusters, or cut off, and were judged \
                 apart: {}",
                words.collect::<Vec<_>>().join(" | ")
            ),
        }
    })
}

/// Which node is in the group of which.
struct Groups(Vec<usize>);

impl Groups {
    fn root(&mut self, place: usize) -> usize {
        let mut at = place;
        while let Some(above) = self.0.get(at).copied().filter(|above| *above != at) {
            let further = self.0.get(above).copied().unwrap_or(above);
            if let Some(entry) = self.0.get_mut(at) {
                *entry = further;
            }
            at = further;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if let Some(entry) = self.0.get_mut(one.max(other)) {
            *entry = one.min(other);
        }
    }
}
