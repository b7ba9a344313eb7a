//! The other nodes, as far as this one knows them: by their blocks, sessions, neighbour entries, and names.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::Model;
use crate::sample::{Neighbour, NeighbourState};

/// Another node.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    pub address: Ipv4Addr,
    /// Its name, where the datastore was shown.
    pub name: Option<&'a str>,
    /// Blocks and single addresses that this node's routes lead to it.
    pub blocks: Vec<Ipv4Net>,
    /// The device by which packets for the node itself leave, and the neighbour's address there: the node's own, or
    /// a router's.
    pub neighbour: Option<&'a Neighbour>,
}

impl<'a> Peer<'a> {
    pub fn of(model: &Model<'a>, address: Ipv4Addr) -> Self {
        let routes = model.remote_blocks().iter();
        let to_it = routes.filter(|block| block.route.hops.iter().any(|hop| hop.gateway == Some(address)));
        Self::with(model, address, to_it.map(|block| block.route.destination).collect())
    }

    fn with(model: &Model<'a>, address: Ipv4Addr, blocks: Vec<Ipv4Net>) -> Self {
        Self { address, name: node_name(model, address), blocks, neighbour: neighbour(model, address) }
    }

    /// `paas-187 (172.30.10.187)`, or the address alone.
    pub fn words(&self) -> String {
        self.name.map_or_else(|| self.address.to_string(), |name| format!("{name} ({})", self.address))
    }
}

/// Every other node that a route, a set, a session or the datastore names, by address.
pub fn all<'a>(model: &Model<'a>) -> Vec<Peer<'a>> {
    let sessions = model.sample.bird.known().into_iter().flat_map(|bird| &bird.sessions);
    let nodes = model.sample.datastore.known().into_iter().flat_map(|datastore| &datastore.nodes);
    let named = nodes.filter_map(|node| Some(node.address?.addr()));
    let addresses: BTreeSet<Ipv4Addr> = model
        .peers()
        .chain(sessions.map(|session| session.peer))
        .chain(named)
        .filter(|address| !model.is_local(*address))
        .collect();
    let mut blocks: HashMap<Ipv4Addr, Vec<Ipv4Net>> = HashMap::new();
    for route in model.remote_blocks().iter().map(|block| block.route) {
        let gateways: BTreeSet<Ipv4Addr> = route.hops.iter().filter_map(|hop| hop.gateway).collect();
        for gateway in gateways {
            blocks.entry(gateway).or_default().push(route.destination);
        }
    }
    let peer = |address| Peer::with(model, address, blocks.remove(&address).unwrap_or_default());
    addresses.into_iter().map(peer).collect()
}

/// Whether anybody but routes and Felix' set of hosts says that an address is a node's: a session of BIRD's, or the
/// datastore.
pub fn is_vouched_for(model: &Model<'_>, address: Ipv4Addr) -> bool {
    let mut sessions = model.sample.bird.known().into_iter().flat_map(|bird| &bird.sessions);
    sessions.any(|session| session.peer == address) || node_name(model, address).is_some()
}

/// The blocks that a node has and no route of this one leads to; `None` where nobody says which it has.
pub fn lost_blocks(model: &Model<'_>, node: Ipv4Addr) -> Option<Vec<Ipv4Net>> {
    let datastore = model.sample.datastore.known()?;
    let name = node_name(model, node)?;
    let blocks =
        datastore.affinities.iter().filter(|affinity| affinity.node == name).map(|affinity| affinity.block);
    let is_routed =
        |block: &Ipv4Net| model.remote_blocks().iter().any(|remote| remote.route.destination == *block);
    Some(blocks.filter(|block| !is_routed(block)).collect())
}

fn node_name<'a>(model: &Model<'a>, address: Ipv4Addr) -> Option<&'a str> {
    let nodes = &model.sample.datastore.known()?.nodes;
    let node = nodes.iter().find(|node| node.address.is_some_and(|own| own.addr() == address))?;
    Some(&node.name)
}

/// The neighbour entry that packets to the node use; one that answers where there are several.
fn neighbour<'a>(model: &Model<'a>, address: Ipv4Addr) -> Option<&'a Neighbour> {
    let entries = model.sample.neighbours.iter().filter(|entry| entry.address == address);
    entries.min_by_key(|entry| match entry.state {
        NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::NoArp => 0,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => 1,
        _ => 2,
    })
}
