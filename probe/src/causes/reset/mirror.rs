//! The main table as notifications leave it, and how the pods of a block are reached by it. Reading a whole node into a
//! model at each of ten thousand notifications would take minutes; this takes the same rules to one route.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::returning::{Passage, Thing};
use crate::{
    model::{is_calico_protocol, is_pod_link, is_tunnel_link, rows::TABLE_MAIN},
    sample::{Hop, Link, Route, RouteKind},
};

/// The routes of the main table by destination, and the devices that they use.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    routes: HashMap<Ipv4Net, Vec<Route>>,
    links: HashMap<u32, Link>,
}

impl Mirror {
    /// As it was read.
    pub fn new(routes: &[Route], links: &[Link]) -> Self {
        let mut mirror =
            Self { links: links.iter().map(|link| (link.index, link.clone())).collect(), ..Self::default() };
        for route in routes {
            mirror.add(route.clone(), false);
        }
        mirror
    }

    /// A route that was added, or put in the place of others. Says whether the mirror had it already.
    pub fn add(&mut self, route: Route, replaces: bool) -> bool {
        if route.table != TABLE_MAIN {
            return false;
        }
        let there = self.routes.entry(route.destination).or_default();
        let was_there = there.iter().any(|other| is_same(other, &route));
        there.retain(|other| !(is_same(other, &route) || replaces && is_in_its_place(other, &route)));
        there.push(route);
        was_there
    }

    /// A route that was removed.
    pub fn remove(&mut self, route: &Route) {
        if route.table != TABLE_MAIN {
            return;
        }
        if let Some(there) = self.routes.get_mut(&route.destination) {
            there.retain(|other| !is_same(other, route));
            if there.is_empty() {
                self.routes.remove(&route.destination);
            }
        }
    }

    /// All destinations.
    pub fn destinations(&self) -> impl Iterator<Item = Ipv4Net> {
        self.routes.keys().copied()
    }

    pub fn has_link(&self, name: &str) -> bool {
        self.links.values().any(|link| link.name == name)
    }

    /// How a thing is reached now; `None` where it is not. Sessions are not in a route table.
    pub fn passage(&self, thing: &Thing) -> Option<Passage> {
        match thing {
            Thing::Block(block) => self.to_block(*block),
            Thing::OwnBlock(block) => self.to_own_block(*block),
            Thing::Pod(address) => self.to_pod(*address),
            Thing::Session(_) => None,
        }
    }

    /// What a destination is now: a pod of this node, or other nodes' pods. Of no interest otherwise.
    pub fn thing_at(&self, destination: Ipv4Net) -> Option<Thing> {
        if destination.prefix_len() == 32 && self.to_pod(destination.addr()).is_some() {
            return Some(Thing::Pod(destination.addr()));
        }
        if self.to_own_block(destination).is_some() {
            return Some(Thing::OwnBlock(destination));
        }
        let leads = self.best(destination).is_some_and(|route| self.leading(route).is_some());
        leads.then_some(Thing::Block(destination))
    }

    /// The longest match decides, as for a packet: another route within the block would, too, but not for all of it.
    fn to_block(&self, block: Ipv4Net) -> Option<Passage> {
        let around =
            (0..=block.prefix_len()).rev().filter_map(|length| Ipv4Net::new(block.addr(), length).ok());
        let route = around.map(|network| network.trunc()).find_map(|network| self.best(network))?;
        self.leading(route)
    }

    fn best(&self, destination: Ipv4Net) -> Option<&Route> {
        self.routes.get(&destination)?.iter().min_by_key(|route| route.metric)
    }

    /// A route that leads to other nodes' pods (`Model::way_to_remote_pods`).
    fn leading(&self, route: &Route) -> Option<Passage> {
        if route.kind != RouteKind::Unicast || !route.hops.iter().any(Hop::has_gateway) {
            return None;
        }
        let links: BTreeSet<u32> = route.hops.iter().filter_map(|hop| hop.link).collect();
        let links: Vec<&Link> = links.iter().filter_map(|index| self.links.get(index)).collect();
        let tunnelled = links.iter().any(|link| is_tunnel_link(link));
        let is_bare = is_calico_protocol(route.protocol) && route.destination.prefix_len() > 0;
        let next_hops: BTreeSet<Ipv4Addr> = route.hops.iter().filter_map(|hop| hop.gateway).collect();
        let words = |prefix: &str, each: Vec<String>| format!("{prefix} {}", each.join(","));
        let by = format!(
            "{} {}",
            words("via", next_hops.iter().map(Ipv4Addr::to_string).collect()),
            words("dev", links.iter().map(|link| link.name.clone()).collect())
        );
        (tunnelled || is_bare).then(|| Passage { by, next_hops: next_hops.into_iter().collect(), tunnelled })
    }

    fn to_own_block(&self, block: Ipv4Net) -> Option<Passage> {
        let route = self.best(block)?;
        let is_own = route.kind == RouteKind::Blackhole && is_calico_protocol(route.protocol);
        is_own.then(|| Passage::by("blackhole"))
    }

    fn to_pod(&self, address: Ipv4Addr) -> Option<Passage> {
        let route = self.best(Ipv4Net::from(address))?;
        let link = self.links.get(&route.hops.first()?.link?)?;
        (route.kind == RouteKind::Unicast && is_pod_link(link))
            .then(|| Passage::by(format!("dev {}", link.name)))
    }
}

/// What the kernel holds to be in the same place (`fib_table_insert`).
fn is_in_its_place(one: &Route, other: &Route) -> bool {
    (one.tos, one.metric) == (other.tos, other.metric)
}

fn is_same(one: &Route, other: &Route) -> bool {
    let hops = |route: &Route| -> Vec<(Option<Ipv4Addr>, Option<u32>)> {
        route.hops.iter().map(|hop| (hop.gateway, hop.link)).collect()
    };
    is_in_its_place(one, other) && one.kind == other.kind && hops(one) == hops(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: u32 = 3;
    const NIC: u32 = 2;
    const POD: u32 = 7;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), ..Link::default() }
    }

    fn route(destination: &str, link: u32, gateway: Option<[u8; 4]>) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            table: TABLE_MAIN,
            protocol: 12,
            hops: vec![Hop {
                link: Some(link),
                gateway: gateway.map(Ipv4Addr::from),
                weight: 1,
                ..Hop::default()
            }],
            ..Route::default()
        }
    }

    fn mirror(routes: &[Route]) -> Mirror {
        Mirror::new(routes, &[link(NIC, "eth0"), link(TUNNEL, "tunl0"), link(POD, "cali1")])
    }

    fn block() -> Thing {
        Thing::Block("10.200.153.64/26".parse().unwrap())
    }

    const NODE: [u8; 4] = [172, 30, 10, 187];

    #[test]
    fn a_block_is_reached_by_the_longest_match() {
        let own = route("10.200.153.64/26", TUNNEL, Some(NODE));
        let wider = route("10.200.153.0/24", TUNNEL, Some([172, 30, 10, 186]));
        let mut default = route("0.0.0.0/0", NIC, Some([172, 30, 10, 254]));
        default.protocol = 3;
        let mut mirror = mirror(&[own.clone(), wider.clone(), default]);
        assert_eq!(mirror.passage(&block()).unwrap().by, "via 172.30.10.187 dev tunl0");
        mirror.remove(&own);
        assert_eq!(mirror.passage(&block()).unwrap().by, "via 172.30.10.186 dev tunl0");
        mirror.remove(&wider);
        assert_eq!(mirror.passage(&block()), None);
    }

    #[test]
    fn a_route_without_encapsulation_is_told_from_the_tunnel() {
        let bare = mirror(&[route("10.200.153.64/26", NIC, Some(NODE))]).passage(&block()).unwrap();
        assert!(!bare.tunnelled);
    }

    #[test]
    fn a_route_that_takes_anothers_place_leaves_one() {
        let mut mirror = mirror(&[route("10.200.153.64/26", TUNNEL, Some(NODE))]);
        let next = route("10.200.153.64/26", TUNNEL, Some([172, 30, 10, 186]));
        mirror.add(next.clone(), true);
        assert_eq!(mirror.passage(&block()).unwrap().by, "via 172.30.10.186 dev tunl0");
        mirror.remove(&next);
        assert_eq!(mirror.passage(&block()), None);
    }

    #[test]
    fn destinations_are_told_for_what_they_are() {
        let mut own = route("10.200.55.192/26", NIC, None);
        (own.kind, own.hops) = (RouteKind::Blackhole, Vec::new());
        let mirror = mirror(&[
            route("10.200.55.193/32", POD, None),
            own,
            route("10.200.153.64/26", TUNNEL, Some(NODE)),
        ]);
        let told = |destination: &str| mirror.thing_at(destination.parse().unwrap());
        assert_eq!(told("10.200.55.193/32"), Some(Thing::Pod([10, 200, 55, 193].into())));
        assert_eq!(told("10.200.55.192/26"), Some(Thing::OwnBlock("10.200.55.192/26".parse().unwrap())));
        assert_eq!(told("10.200.153.64/26"), Some(block()));
        assert_eq!(told("172.30.10.0/24"), None);
    }
}
