//! What no plan ever holds, whatever else says that it is stale: the last word over each step.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{Outcome, kept};
use crate::{
    model::{
        Model, is_pod_link, is_tunnel_link, peers,
        routing::{Flow, look_up, output_links},
    },
    plan::{Action, Step},
    sample::{Fact, Link, Route, RouteKind},
};

/// `ARPHRD_LOOPBACK`.
const LOOPBACK: u16 = 772;
/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u32 = 255;

pub struct Guard<'a, 'm> {
    model: &'m Model<'a>,
    /// Addresses that this node must reach, and what they are.
    addresses: BTreeMap<Ipv4Addr, String>,
    /// Devices by which it does, and their parts.
    links: BTreeSet<u32>,
    /// Why it is not known what this node talks to.
    blind: Option<String>,
}

impl<'a, 'm> Guard<'a, 'm> {
    pub fn new(model: &'m Model<'a>) -> Self {
        let addresses = addresses(model);
        let links = links(model, &addresses);
        let blind = match &model.sample.surroundings {
            Fact::Known(surroundings) => surroundings.lifelines.absent(),
            Fact::Absent(why) => Some(why.as_str()),
        };
        Self { model, addresses, links, blind: blind.map(str::to_owned) }
    }

    /// The steps of one thing, or that it stays as a whole.
    pub fn pass(&self, steps: Vec<Step>) -> Outcome {
        let refused = steps.iter().find_map(|step| Some((step, self.refuses(&step.action)?)));
        match refused {
            Some((step, why)) => {
                let subject = steps.last().unwrap_or(step).subject.clone();
                Err(kept(subject, format!("{why}; else: {}", step.why), None))
            }
            None => Ok(steps),
        }
    }

    /// Why a step is never taken.
    pub fn refuses(&self, action: &Action) -> Option<String> {
        if let Some(why) = &self.blind {
            return Some(format!("what this node talks to is not known: {why}"));
        }
        match action {
            Action::DeleteRoute { route, .. } => self.refuses_route(route),
            Action::SetLinkDown { link } | Action::DeleteLink { link, .. } => self.refuses_link(link),
        }
    }

    fn refuses_route(&self, route: &Route) -> Option<String> {
        let destination = route.destination;
        if destination.prefix_len() == 0 {
            return Some("it is a default route".to_owned());
        }
        if route.table == TABLE_LOCAL
            || matches!(route.kind, RouteKind::Local | RouteKind::Broadcast | RouteKind::Multicast)
        {
            return Some("it stands and falls with an address".to_owned());
        }
        if let Some((address, what)) = self.within(route) {
            return Some(format!("{destination} leads towards {address}, {what}"));
        }
        let mut gateways = route.hops.iter().filter_map(|hop| hop.gateway);
        if let Some((gateway, what)) =
            gateways.find_map(|gateway| Some((gateway, self.addresses.get(&gateway)?)))
        {
            return Some(format!("{destination} leads by {gateway}, {what}"));
        }
        let mut links = route.hops.iter().filter_map(|hop| hop.link);
        links.find(|link| self.links.contains(link) && !self.is_tunnel(*link)).map(|link| {
            let name = self.model.link(link).map_or_else(|| format!("if{link}"), |link| link.name.clone());
            format!("{destination} leads by {name}, which this node needs")
        })
    }

    fn within(&self, route: &Route) -> Option<(Ipv4Addr, &str)> {
        let destination = route.destination;
        let mut within = self.addresses.range(destination.network()..=destination.broadcast());
        within.next().map(|(address, what)| (*address, what.as_str()))
    }

    fn is_tunnel(&self, link: u32) -> bool {
        self.model.link(link).is_some_and(is_tunnel_link)
    }

    fn refuses_link(&self, link: &Link) -> Option<String> {
        let is_veth_of_pod = is_pod_link(link) && link.kind.as_deref() == Some("veth");
        let is_bridge = link.kind.as_deref() == Some("bridge");
        if is_tunnel_link(link) || link.link_layer_type == LOOPBACK || !(is_veth_of_pod || is_bridge) {
            return Some(format!("{} is neither a bridge nor a pod's", link.name));
        }
        if self.links.contains(&link.index) {
            return Some(format!("this node needs {}", link.name));
        }
        let mut own = self.model.sample.addresses.iter().filter(|address| address.link == link.index);
        let (address, what) = own.find_map(|own| Some((own.address, self.addresses.get(&own.address)?)))?;
        Some(format!("{} has {address}, {what}", link.name))
    }
}

/// Nodes, routers, and whatever is talked to right now.
fn addresses(model: &Model<'_>) -> BTreeMap<Ipv4Addr, String> {
    let mut addresses = BTreeMap::new();
    let mut note = |address, what: &str| {
        addresses.entry(address).or_insert_with(|| what.to_owned());
    };
    for route in model.sample.routes.iter().filter(|route| route.destination.prefix_len() == 0) {
        for gateway in route.hops.iter().filter_map(|hop| hop.gateway) {
            note(gateway, "a default gateway");
        }
    }
    for host in model.sample.sets.hosts.known().into_iter().flatten() {
        note(host.network(), "a node");
    }
    // Next hops of routes alone do not make a node: those routes are what is judged.
    for peer in peers::all(model).into_iter().filter(|peer| peers::is_vouched_for(model, peer.address)) {
        note(peer.address, "a node");
    }
    if let Some(own) = model.own_address() {
        note(own, "this node's address");
    }
    let surroundings = model.sample.surroundings.known();
    for lifeline in surroundings.and_then(|it| it.lifelines.known()).into_iter().flatten() {
        note(lifeline.address, &lifeline.what);
    }
    addresses
}

/// The devices of those addresses' routes and of default routes, `tunl0`, and what these stand on.
fn links(model: &Model<'_>, addresses: &BTreeMap<Ipv4Addr, String>) -> BTreeSet<u32> {
    let mut links: BTreeSet<u32> = addresses
        .keys()
        .flat_map(|address| {
            let flow = Flow { source: None, destination: *address, input_link: None, mark: 0, tos: 0 };
            output_links(&look_up(model, &flow))
        })
        .collect();
    let defaults = model.sample.routes.iter().filter(|route| route.destination.prefix_len() == 0);
    links.extend(defaults.flat_map(|route| &route.hops).filter_map(|hop| hop.link));
    links.extend(model.tunnel().map(|tunnel| tunnel.index));
    let own = model.own_address();
    let of_node = model.sample.addresses.iter().filter(|address| Some(address.address) == own);
    links.extend(of_node.map(|address| address.link));
    loop {
        let parts: Vec<u32> = model
            .sample
            .links
            .iter()
            .flat_map(|link| {
                let is_needed = links.contains(&link.index);
                let port = link.master.filter(|master| links.contains(master)).map(|_| link.index);
                let master = link.master.filter(|_| is_needed);
                let lower = link.lower.filter(|_| is_needed && link.peer_namespace.is_none());
                [port, master, lower]
            })
            .flatten()
            .filter(|part| !links.contains(part))
            .collect();
        if parts.is_empty() {
            return links;
        }
        links.extend(parts);
    }
}
