//! The devices that encapsulated packets take on their way to other nodes.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{
    Model, peers,
    routing::{Decision, Flow, look_up},
};

/// The devices by which packets to the other nodes leave; that of the default route where no other node is known, and
/// every device that routes use where there is none either.
pub fn links(model: &Model<'_>) -> BTreeSet<u32> {
    // A next hop among the pods' addresses is of another overlay.
    let nodes = peers::all(model).into_iter().filter(|peer| model.pool_of(peer.address).is_none());
    let mut links: BTreeSet<u32> = nodes.flat_map(|peer| towards(model, peer.address)).collect();
    if links.is_empty() {
        links.extend(model.tables.default_link().filter(|link| model.is_wire(*link)));
    }
    if links.is_empty() {
        links.extend(model.sample.links.iter().map(|link| link.index).filter(|link| model.is_wire(*link)));
    }
    links
}

fn towards(model: &Model<'_>, node: Ipv4Addr) -> Vec<u32> {
    let flow = Flow { source: None, destination: node, input_link: None, mark: 0, tos: 0 };
    let Decision::Route { hops, .. } = look_up(model, &flow) else { return Vec::new() };
    hops.iter().filter_map(|hop| hop.link).filter(|link| model.is_wire(*link)).collect()
}
