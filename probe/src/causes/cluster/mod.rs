//! All nodes of a cluster held against each other: what one says of another that the other does not bear out. Each was
//! looked at on its own, and not at the same moment; what is not shown of a node accuses nobody.

mod blocks;
mod groups;
mod hosts;
mod identities;
mod moments;
mod node;
mod outliers;
mod parts;
mod sessions;
mod ways;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

pub use groups::{Group, OfNode, group};
pub use node::{Node, Seen};

use crate::report::document::{Finding, NotSeen};

/// As many as a person reads in one line.
pub const MOST_NAMED: usize = 5;

/// What nodes next to each other show.
#[derive(Debug, Default)]
pub struct Joined {
    /// What is wrong, by the place of the node on which to act.
    pub found: Vec<(usize, Finding)>,
    pub not_seen: Vec<NotSeen>,
}

/// Nodes that know each other, with what the others are looked up by. Places are those of the whole list.
struct Cluster<'a> {
    nodes: Vec<(usize, &'a Node)>,
    owners: HashMap<Ipv4Net, Vec<usize>>,
    by_address: HashMap<Ipv4Addr, Vec<usize>>,
    /// What a finding says of each node's name and time.
    all: &'a [Node],
}

impl<'a> Cluster<'a> {
    fn of(all: &'a [Node], places: &[usize]) -> Self {
        let nodes: Vec<(usize, &Node)> =
            places.iter().filter_map(|place| Some((*place, all.get(*place)?))).collect();
        let mut cluster = Self { nodes, owners: HashMap::new(), by_address: HashMap::new(), all };
        for (place, node) in &cluster.nodes {
            for block in &node.own_blocks {
                cluster.owners.entry(*block).or_default().push(*place);
            }
            for address in &node.addresses {
                cluster.by_address.entry(*address).or_default().push(*place);
            }
        }
        cluster
    }

    fn node(&self, place: usize) -> Option<&'a Node> {
        self.all.get(place)
    }

    /// The only node that has a block.
    fn owner(&self, block: Ipv4Net) -> Option<(usize, &'a Node)> {
        match self.owners.get(&block).map(Vec::as_slice) {
            Some([place]) => Some((*place, self.node(*place)?)),
            _ => None,
        }
    }

    /// The only node that has an address.
    fn at(&self, address: Ipv4Addr) -> Option<(usize, &'a Node)> {
        match self.by_address.get(&address).map(Vec::as_slice) {
            Some([place]) => Some((*place, self.node(*place)?)),
            _ => None,
        }
    }
}

/// Of several looks at one machine the newest, in the order in which they were given, and what was left out for it.
pub fn newest(nodes: Vec<Node>) -> (Vec<Node>, Vec<NotSeen>) {
    identities::newest(nodes)
}

/// Holds nodes against each other, each of them another machine.
pub fn judge(nodes: &[Node]) -> Joined {
    let mut joined = Joined::default();
    let parts = parts::find(nodes);
    joined.not_seen.extend(parts::mixed(nodes, &parts));
    for places in &parts {
        let cluster = Cluster::of(nodes, places);
        joined.found.extend(identities::judge(&cluster));
        joined.found.extend(blocks::judge(&cluster));
        joined.found.extend(ways::judge(&cluster));
        joined.found.extend(hosts::judge(&cluster));
        joined.found.extend(sessions::judge(&cluster));
        joined.found.extend(outliers::judge(&cluster));
    }
    joined.not_seen.extend(not_given(nodes));
    joined.not_seen.extend(unknown(nodes));
    joined
}

/// Nodes that the others name, and that are not among those that were given.
fn not_given(nodes: &[Node]) -> Option<NotSeen> {
    let given: HashSet<Ipv4Addr> = nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect();
    let hosts = nodes.iter().filter_map(|node| node.hosts.as_ref()).flatten();
    let named: BTreeSet<Ipv4Addr> = hosts.filter(|host| host.prefix_len() == 32).map(Ipv4Net::addr).collect();
    let missing: Vec<String> =
        named.iter().filter(|address| !given.contains(address)).map(Ipv4Addr::to_string).collect();
    (!missing.is_empty() && !given.is_empty()).then(|| NotSeen {
        what: format!("{} of {} nodes that Felix' sets of hosts name", missing.len(), named.len()),
        why: format!("nothing of theirs was given: {}", list(&missing)),
    })
}

/// What is not known of which nodes, so that they are held against the others in less.
fn unknown(nodes: &[Node]) -> Vec<NotSeen> {
    let lacking = |what: &str, is_known: &dyn Fn(&Node) -> bool| {
        let names: Vec<String> =
            nodes.iter().filter(|node| !is_known(node)).map(|node| node.name.clone()).collect();
        (!names.is_empty()).then(|| NotSeen {
            what: format!("{what} of {} of {} nodes", names.len(), nodes.len()),
            why: format!("they were not shown, or could not be read: {}", list(&names)),
        })
    };
    [
        lacking("the route table", &|node| node.holds_routes),
        lacking("the addresses", &|node| node.address.is_some()),
        lacking("Felix' set of hosts", &|node| node.hosts.is_some()),
        lacking("the BGP sessions", &|node| node.sessions.is_some()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The first few of them.
pub fn list<T: AsRef<str>>(all: &[T]) -> String {
    let first: Vec<&str> = all.iter().take(MOST_NAMED).map(AsRef::as_ref).collect();
    match all.len().saturating_sub(MOST_NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
