//! A sample made into what an engineer speaks of: pools, blocks, peers, pods, look-ups. Pure: no file, no
//! socket, no clock.

pub mod increments;
pub mod layout;
pub mod netfilter;
pub mod peers;
pub mod pools;
pub mod readiness;
pub mod routing;
pub mod rows;
pub mod totals;
pub mod underlay;

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::sample::{CniResult, Hop, Link, Part, Route, RouteKind, Sample};
use pools::Pool;
use routing::Tables;

/// The fallback device of the ipip module, which Calico uses as its only tunnel device.
const TUNNEL: &str = "tunl0";
/// How Calico begins the names of the host's ends of pod veths, unless `FELIX_INTERFACEPREFIX` says otherwise.
const POD_PREFIX: &str = "cali";
/// Calico's default block size.
const DEFAULT_BLOCK_LENGTH: u8 = 26;
/// `RTPROT_UNSPEC`.
const PROTOCOL_UNTOLD: u8 = 0;
/// What a pod's own default route leads to, and a node answers ARP for.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// `RT_TABLE_LOCAL`.
pub const TABLE_LOCAL: u32 = 255;

/// `RTPROT_BIRD`, and the number that Felix writes into its own routes by default.
pub fn is_calico_protocol(protocol: u8) -> bool {
    matches!(protocol, 12 | 80)
}

/// Whether a sample does not tell who wrote a route.
fn is_untold(sample: &Sample, route: &Route) -> bool {
    route.protocol == PROTOCOL_UNTOLD && !sample.holds(Part::RouteProtocols)
}

/// Whether a device is the host's end of a pod's veth.
pub fn is_pod_link(link: &Link) -> bool {
    link.name.starts_with(POD_PREFIX)
}

/// Whether a device is Calico's tunnel device.
pub fn is_tunnel_link(link: &Link) -> bool {
    link.name == TUNNEL
}

/// A pod of this node, known by its /32 route.
#[derive(Clone, Copy, Debug)]
pub struct LocalPod<'a> {
    pub address: Ipv4Addr,
    /// Index of the `cali*` that the route leads to.
    pub link: u32,
    pub route: &'a Route,
}

/// How packets for another node's pods leave this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Encapsulated, by `tunl0`.
    Tunnel,
    /// As they are, as between nodes of one subnet with CrossSubnet.
    Bare,
}

/// A route to pods of another node.
#[derive(Clone, Copy, Debug)]
pub struct RemoteBlock<'a> {
    pub route: &'a Route,
    /// Whether it leads through `tunl0`.
    pub tunnelled: bool,
}

/// One node's pod network, derived from a sample.
pub struct Model<'a> {
    pub sample: &'a Sample,
    pub tables: Tables<'a>,
    pub pools: Vec<Pool>,
    /// Places of the pools, to find the one around a network without looking at every one.
    pool_places: HashMap<Ipv4Net, usize>,
    links: HashMap<u32, &'a Link>,
    pods: Vec<LocalPod<'a>>,
    own_blocks: Vec<&'a Route>,
    remote_blocks: Vec<RemoteBlock<'a>>,
    /// Places of these by destination, to find those around an address without looking at every one.
    remote_places: HashMap<Ipv4Net, Vec<usize>>,
    nodes: BTreeSet<Ipv4Addr>,
    wires: BTreeSet<u32>,
}

impl<'a> Model<'a> {
    pub fn new(sample: &'a Sample) -> Self {
        let mut model = Self {
            sample,
            tables: Tables::new(sample),
            pool_places: HashMap::new(),
            pools: pools::find(sample),
            links: sample.links.iter().map(|link| (link.index, link)).collect(),
            pods: Vec::new(),
            own_blocks: Vec::new(),
            remote_blocks: Vec::new(),
            remote_places: HashMap::new(),
            nodes: BTreeSet::new(),
            wires: BTreeSet::new(),
        };
        model.pool_places = model.pools.iter().enumerate().map(|(place, pool)| (pool.cidr, place)).collect();
        for route in sample.routes.iter().filter(|route| route.table != TABLE_LOCAL) {
            model.enter(route);
        }
        model.pods.sort_by_key(|pod| (pod.address, pod.route.metric));
        if let Some(hosts) = sample.sets.hosts.known() {
            model.nodes.extend(hosts.iter().filter(|host| host.prefix_len() == 32).map(Ipv4Net::addr));
        }
        model
    }

    fn enter(&mut self, route: &'a Route) {
        let links = || route.hops.iter().filter_map(|hop| hop.link);
        if self.is_own_block(route) {
            self.own_blocks.push(route);
        }
        if route.kind != RouteKind::Unicast {
            return;
        }
        if let Some(link) = self.pod_link_of(route) {
            self.pods.push(LocalPod { address: route.destination.addr(), link, route });
        }
        if let Some(way) = self.way_to_remote_pods(route)
            && self.is_in_pool(route.destination)
        {
            self.remote_places.entry(route.destination).or_default().push(self.remote_blocks.len());
            self.remote_blocks.push(RemoteBlock { route, tunnelled: way == Way::Tunnel });
        }
        if self.uses_tunnel(route) {
            self.nodes.extend(route.hops.iter().filter_map(|hop| hop.gateway));
        }
        let wires: Vec<u32> = links().filter(|link| self.carries_underlay(*link)).collect();
        self.wires.extend(wires);
    }

    fn is_in_pool(&self, network: Ipv4Net) -> bool {
        self.pool_around(network).is_some()
    }

    /// Whether a route is the blackhole that BIRD or Felix writes for a block of this node.
    pub fn is_own_block(&self, route: &Route) -> bool {
        route.kind == RouteKind::Blackhole && self.may_be_calico(route) && self.is_in_pool(route.destination)
    }

    /// Whether BIRD or Felix wrote a route, or nobody shows who did.
    pub fn may_be_calico(&self, route: &Route) -> bool {
        is_calico_protocol(route.protocol) || is_untold(self.sample, route)
    }

    /// The `cali*` that a /32 route leads to.
    pub fn pod_link_of(&self, route: &Route) -> Option<u32> {
        let mut links = route.hops.iter().filter_map(|hop| hop.link);
        let to_pod = links.find(|link| self.link(*link).is_some_and(is_pod_link));
        to_pod.filter(|_| route.kind == RouteKind::Unicast && route.destination.prefix_len() == 32)
    }

    /// The way to other nodes' pods that a route shows: through the tunnel to a node, or bare as Calico wrote it.
    pub fn way_to_remote_pods(&self, route: &Route) -> Option<Way> {
        if route.kind != RouteKind::Unicast || !route.hops.iter().any(Hop::has_gateway) {
            return None;
        }
        if self.uses_tunnel(route) {
            return Some(Way::Tunnel);
        }
        (self.may_be_calico(route) && route.destination.prefix_len() > 0).then_some(Way::Bare)
    }

    /// Whether a route leads into `tunl0`.
    pub fn uses_tunnel(&self, route: &Route) -> bool {
        route.hops.iter().filter_map(|hop| hop.link).any(|link| self.is_tunnel(link))
    }

    fn carries_underlay(&self, link: u32) -> bool {
        self.link(link).is_some_and(|link| !is_pod_link(link) && link.name != TUNNEL && link.name != "lo")
    }

    fn is_tunnel(&self, link: u32) -> bool {
        self.link(link).is_some_and(|link| link.name == TUNNEL)
    }

    pub fn link(&self, index: u32) -> Option<&'a Link> {
        self.links.get(&index).copied()
    }

    pub fn link_by_name(&self, name: &str) -> Option<&'a Link> {
        self.sample.links.iter().find(|link| link.name == name)
    }

    /// Calico's name of this node, or else the kernel's.
    pub fn node_name(&self) -> String {
        let node = &self.sample.node;
        node.calico_node_name.known().unwrap_or(&node.hostname).clone()
    }

    /// The pool that an address is in; the most specific where pools nest.
    pub fn pool_of(&self, address: Ipv4Addr) -> Option<&Pool> {
        self.pool_around(Ipv4Net::from(address))
    }

    /// The most specific pool that holds a whole network.
    pub fn pool_around(&self, network: Ipv4Net) -> Option<&Pool> {
        let place = around(network).find_map(|around| self.pool_places.get(&around))?;
        self.pools.get(*place)
    }

    /// This node's own block that holds an address: its blackhole route, as BIRD or Felix wrote it.
    pub fn own_block(&self, address: Ipv4Addr) -> Option<&'a Route> {
        longest(self.own_blocks.iter().copied(), address)
    }

    pub fn own_blocks(&self) -> &[&'a Route] {
        &self.own_blocks
    }

    /// The route to another node's pods that covers an address.
    pub fn remote_block(&self, address: Ipv4Addr) -> Option<RemoteBlock<'a>> {
        let mut around = around(Ipv4Net::from(address));
        let places = around.find_map(|network| self.remote_places.get(&network))?;
        let blocks = places.iter().filter_map(|place| self.remote_blocks.get(*place));
        blocks.copied().max_by_key(|block| u32::MAX - block.route.metric)
    }

    /// The smallest network of another node's pods, larger than a single address, that holds an address.
    pub fn remote_network(&self, address: Ipv4Addr) -> Option<Ipv4Net> {
        around(Ipv4Net::from(address)).skip(1).find(|network| self.remote_places.contains_key(network))
    }

    pub fn remote_blocks(&self) -> &[RemoteBlock<'a>] {
        &self.remote_blocks
    }

    /// The block that an address is in, as far as it can be known: a route's, or else of the size that this
    /// node's other blocks have.
    pub fn block_of(&self, address: Ipv4Addr) -> Ipv4Net {
        if let Some(route) = self.own_block(address) {
            return route.destination;
        }
        if let Some(block) =
            self.remote_block(address).filter(|block| block.route.destination.prefix_len() < 32)
        {
            return block.route.destination;
        }
        let length = self.block_length(address);
        Ipv4Net::new(address, length).map_or_else(|_| Ipv4Net::from(address), |block| block.trunc())
    }

    /// Block sizes are not known without the datastore: the longest block route of the pool tells, else the
    /// default.
    fn block_length(&self, address: Ipv4Addr) -> u8 {
        let pool = self.pool_of(address).map(|pool| pool.cidr);
        let routes =
            self.own_blocks.iter().copied().chain(self.remote_blocks.iter().map(|block| block.route));
        routes
            .map(|route| route.destination)
            .filter(|block| block.prefix_len() < 32 && pool.is_none_or(|pool| pool.contains(block)))
            .map(|block| block.prefix_len())
            .max()
            .unwrap_or(DEFAULT_BLOCK_LENGTH)
    }

    /// Pods of this node that a route leads to, by address.
    pub fn pods(&self) -> &[LocalPod<'a>] {
        &self.pods
    }

    pub fn pod(&self, address: Ipv4Addr) -> Option<LocalPod<'a>> {
        let first = self.pods.partition_point(|pod| pod.address < address);
        self.pods.get(first).copied().filter(|pod| pod.address == address)
    }

    pub fn is_local_pod(&self, address: Ipv4Addr) -> bool {
        self.pod(address).is_some()
    }

    /// Host's ends of pod veths that no /32 leads to.
    pub fn pod_links_without_route(&self) -> impl Iterator<Item = &'a Link> {
        let routed: BTreeSet<u32> = self.pods.iter().map(|pod| pod.link).collect();
        let links = self.sample.links.iter().filter(|link| is_pod_link(link));
        links.filter(move |link| !routed.contains(&link.index))
    }

    /// How many pods of this node a network holds.
    pub fn pods_within(&self, network: Ipv4Net) -> usize {
        let first = self.pods.partition_point(|pod| pod.address < network.network());
        let end = self.pods.partition_point(|pod| pod.address <= network.broadcast());
        let within = self.pods.get(first..end).unwrap_or_default();
        within.chunk_by(|one, other| one.address == other.address).count()
    }

    /// `namespace/name` of a pod of this node, from the container runtime's cache.
    pub fn pod_name(&self, address: Ipv4Addr) -> Option<String> {
        let link = self.pod(address).and_then(|pod| self.link(pod.link));
        let results = self.sample.cni_results.known()?;
        let named = |result: &&CniResult| result.addresses.contains(&address);
        let behind = |result: &&CniResult| {
            link.is_none_or(|link| result.host_interface.as_deref().is_none_or(|name| name == link.name))
        };
        let result = results.iter().filter(named).find(behind)?;
        Some(format!("{}/{}", result.namespace.as_deref()?, result.pod.as_deref()?))
    }

    pub fn tunnel(&self) -> Option<&'a Link> {
        self.link_by_name(TUNNEL)
    }

    /// Why this node needs `tunl0`; `None` where nothing proves it.
    pub fn needs_tunnel(&self) -> Option<String> {
        if self.remote_blocks.iter().any(|block| block.tunnelled) {
            return Some("block routes lead through tunl0".to_owned());
        }
        let tunnel = self.tunnel();
        let address = tunnel.and_then(|tunnel| {
            let on_tunnel = self.sample.addresses.iter().filter(move |address| address.link == tunnel.index);
            on_tunnel.map(|address| address.address).find(|address| self.pool_of(*address).is_some())
        });
        if let Some(address) = address {
            return Some(format!("tunl0 has {address} of a pod pool"));
        }
        let hosts = self.sample.sets.hosts.known()?;
        (hosts.len() > 1)
            .then(|| format!("cali40all-hosts-net names {} nodes, and Felix makes it for IPIP", hosts.len()))
    }

    /// The router of the default route in the main table.
    pub fn default_gateway(&self) -> Option<Ipv4Addr> {
        self.tables.default_route()?.hops.first()?.gateway
    }

    /// Whether anything here is of Calico; without it there is no pod network of it to judge.
    pub fn shows_calico(&self) -> bool {
        let sample = self.sample;
        let on_tunnel = |tunnel: &Link| sample.addresses.iter().any(|address| address.link == tunnel.index);
        sample.node.calico_node_name.known().is_some()
            || sample.bird.known().is_some()
            || sample.links.iter().any(is_pod_link)
            || self.tunnel().is_some_and(|tunnel| tunnel.up || on_tunnel(tunnel))
            || sample.routes.iter().any(|route| is_calico_protocol(route.protocol) || self.uses_tunnel(route))
    }

    /// Whether this is the inside of a pod rather than a node: its default route leads to the pods' gateway by a
    /// route that no node has.
    pub fn is_inside_pod(&self) -> bool {
        let routes = || self.sample.routes.iter().filter(|route| route.kind == RouteKind::Unicast);
        let leads_to_gateway = |route: &Route| {
            route.hops.iter().any(|hop| hop.gateway == Some(POD_GATEWAY)) && !self.uses_tunnel(route)
        };
        let is_its_way = |route: &Route| {
            route.destination == Ipv4Net::from(POD_GATEWAY) && !route.hops.iter().any(Hop::has_gateway)
        };
        let is_node = self.sample.links.iter().any(is_pod_link) || !self.own_blocks.is_empty();
        if self.sample.routes.is_empty() {
            return self.sample.holds(Part::Routes) && !self.shows_calico();
        }
        !is_node
            && routes().any(leads_to_gateway)
            && routes().all(|route| leads_to_gateway(route) || is_its_way(route))
    }

    /// Whether an address is a node's, this one's included.
    pub fn is_node(&self, address: Ipv4Addr) -> bool {
        self.nodes.contains(&address)
    }

    /// Every node address that is known, without this node's own.
    pub fn peers(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.nodes.iter().copied().filter(|address| !self.is_local(*address))
    }

    /// Whether a default route of the main table leads by an address.
    pub fn is_default_gateway(&self, address: Ipv4Addr) -> bool {
        let defaults = self.sample.routes.iter().filter(|route| route.destination.prefix_len() == 0);
        defaults.flat_map(|route| &route.hops).any(|hop| hop.gateway == Some(address))
    }

    /// Whether an address is on `tunl0`.
    pub fn is_tunnel_address(&self, address: Ipv4Addr) -> bool {
        let tunnel = self.tunnel().map(|tunnel| tunnel.index);
        self.sample.addresses.iter().any(|local| local.address == address && Some(local.link) == tunnel)
    }

    /// Whether an address is on one of this namespace's devices.
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.sample.addresses.iter().any(|local| local.address == address)
    }

    /// The address by which the other nodes know this one.
    pub fn own_address(&self) -> Option<Ipv4Addr> {
        let locals = || self.sample.addresses.iter().filter(|local| self.carries_underlay(local.link));
        let known = locals().map(|local| local.address).find(|address| self.nodes.contains(address));
        known.or_else(|| {
            let uplink = self.tables.default_link()?;
            locals().find(|local| local.link == uplink && local.scope == 0).map(|local| local.address)
        })
    }

    /// The node to which `tunl0` sends packets for an address.
    pub fn tunnel_next_hop(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let block = self.remote_block(address).filter(|block| block.tunnelled)?;
        block.route.hops.first()?.gateway
    }

    /// All nodes among which the tunnel shares out what goes to an address.
    pub fn tunnel_next_hops(&self, address: Ipv4Addr) -> BTreeSet<Ipv4Addr> {
        let block = self.remote_block(address).filter(|block| block.tunnelled);
        block.iter().flat_map(|block| &block.route.hops).filter_map(|hop| hop.gateway).collect()
    }

    /// The node to which packets for an address go without encapsulation.
    pub fn bare_next_hop(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let block = self.remote_block(address).filter(|block| !block.tunnelled)?;
        block.route.hops.first()?.gateway
    }

    /// Whether the block's own route sends it to a node without encapsulation, as CrossSubnet does.
    pub fn has_bare_route(&self, address: Ipv4Addr) -> bool {
        self.bare_next_hop(address).is_some_and(|gateway| self.is_node(gateway))
    }

    /// Whether bare packets for an address may leave by a device.
    pub fn is_lawfully_bare(&self, address: Ipv4Addr, link: u32) -> bool {
        self.has_bare_route(address)
            && self
                .remote_block(address)
                .is_some_and(|block| block.route.hops.iter().any(|hop| hop.link == Some(link)))
    }

    /// Whether routes use a device that is neither a pod's, `tunl0`, nor `lo`.
    pub fn is_wire(&self, link: u32) -> bool {
        self.wires.contains(&link)
    }
}

fn longest<'a>(routes: impl Iterator<Item = &'a Route>, address: Ipv4Addr) -> Option<&'a Route> {
    routes
        .filter(|route| route.destination.contains(&address))
        .max_by_key(|route| route.destination.prefix_len())
}

/// A network and all that hold it, from the smallest to the largest.
fn around(network: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
    std::iter::successors(Some(network.trunc()), Ipv4Net::supernet)
}
