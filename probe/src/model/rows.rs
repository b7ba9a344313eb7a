//! The rows of the route tables, each with what it is for, as an engineer would say it, and the traffic that is
//! its own.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{Model, TABLE_LOCAL, Way, is_pod_link, is_untold};
use crate::sample::{Fact, Link, Part, Route, RouteKind};

/// `RT_TABLE_MAIN`.
pub const TABLE_MAIN: u32 = 254;
/// `RTPROT_KERNEL`: what the kernel itself writes for the network of a device's address.
const PROTOCOL_KERNEL: u8 = 2;
/// The network of addresses without configuration (RFC 3927), which `avahi` and cloud images route.
const ZERO_CONFIGURATION: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);

/// What a row is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Role {
    /// A pod of this node; `namespace/name` where it is known.
    LocalPod {
        pod: Option<String>,
    },
    /// A block of this node: what no pod's own row takes is dropped.
    OwnBlock {
        pods: usize,
    },
    /// A block of another node.
    RemoteBlock {
        next_hops: Vec<Ipv4Addr>,
        way: Way,
    },
    /// One pod address of another node, out of this block where other rows tell that it is borrowed.
    RemoteAddress {
        next_hops: Vec<Ipv4Addr>,
        way: Way,
        borrowed_from: Option<Ipv4Net>,
    },
    /// Something on `tunl0` that names no node to send it to.
    TunnelWithoutNextHop,
    /// Pods by another network than IPIP: Calico's VXLAN or `WireGuard`, flannel.
    OtherOverlay,
    DefaultRoute,
    /// The network in which this node's own address is.
    NodeNetwork,
    DockerNetwork,
    LibvirtNetwork,
    /// The network of any other bridge.
    BridgeNetwork,
    ZeroConfiguration,
    /// Any other network, or host, on a device of this node.
    ConnectedNetwork,
    /// The way to the address of another node.
    NodeAddress,
    /// A network, or host, behind a router.
    RoutedNetwork,
    /// Dropped, and not as a block of this node.
    Refused,
    /// An address of this node or a broadcast address, in a table where it does not belong.
    Local,
    /// A next-hop object decides.
    NextHopObject {
        id: u32,
    },
}

impl Role {
    /// Whether Calico wrote this row for pods that it reaches here or by IPIP.
    #[must_use]
    pub fn is_calico(&self) -> bool {
        matches!(
            self,
            Self::LocalPod { .. }
                | Self::OwnBlock { .. }
                | Self::RemoteBlock { .. }
                | Self::RemoteAddress { .. }
        )
    }
}

/// What the device of a row has carried since it exists; packets are socket buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Traffic {
    #[must_use]
    pub fn of(link: &Link) -> Self {
        let statistics = &link.statistics;
        Self {
            packets_in: statistics.rx_packets,
            packets_out: statistics.tx_packets,
            bytes_in: statistics.rx_bytes,
            bytes_out: statistics.tx_bytes,
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub route: &'a Route,
    pub role: Role,
    /// Whether a row for the same destination is preferred, so that this one is never taken.
    pub shadowed: bool,
    /// Of the row's device, where no other row uses that device.
    pub traffic: Fact<Traffic>,
}

impl Row<'_> {
    /// Whether the kernel takes this row at all: it passes over one whose every device is down.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.route.hops.is_empty() || self.route.hops.iter().any(|hop| !hop.dead)
    }

    /// Whether packets take it: alive, and no other is preferred.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.is_alive() && !self.shadowed
    }
}

/// A device that carries the traffic of several rows together.
#[derive(Clone, Debug)]
pub struct SharedDevice<'a> {
    pub link: &'a Link,
    /// How many destinations it leads to.
    pub destinations: usize,
    pub traffic: Traffic,
}

/// Which tables are wanted; the table of local addresses never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    Main,
    All,
}

/// The rows by table and destination, and the devices that several of them share.
pub fn read<'a>(model: &Model<'a>, tables: Tables) -> (Vec<Row<'a>>, Vec<SharedDevice<'a>>) {
    let users = users(model);
    let mut routes: Vec<&Route> =
        model.sample.routes.iter().filter(|route| wanted(route.table, tables)).collect();
    routes.sort_by_key(|route| {
        let key = route.destination;
        (
            route.table != TABLE_MAIN,
            route.table,
            key.network(),
            key.prefix_len(),
            u8::MAX - route.tos,
            route.metric,
        )
    });
    let mut rows: Vec<Row<'a>> = Vec::with_capacity(routes.len());
    for route in routes {
        let key = |route: &Route| (route.table, route.destination, route.tos);
        let mut preferred = rows.iter().rev().take_while(|before| key(before.route) == key(route));
        let shadowed = preferred.any(Row::is_alive);
        let traffic = if shadowed {
            Fact::Absent("it is never taken: another route is preferred".to_owned())
        } else {
            traffic(model, &users, route)
        };
        rows.push(Row { route, role: role(model, route), shadowed, traffic });
    }
    let mut shared: Vec<SharedDevice<'a>> = users
        .iter()
        .filter(|(_, destinations)| **destinations > 1 && model.sample.holds(Part::LinkStatistics))
        .filter_map(|(link, destinations)| {
            let link = model.link(*link)?;
            Some(SharedDevice { link, destinations: *destinations, traffic: Traffic::of(link) })
        })
        .collect();
    shared.sort_by_key(|device| device.link.index);
    (rows, shared)
}

fn wanted(table: u32, tables: Tables) -> bool {
    match tables {
        Tables::Main => table == TABLE_MAIN,
        Tables::All => table != TABLE_LOCAL,
    }
}

/// How many destinations the rows of all tables lead to by each device.
fn users(model: &Model<'_>) -> HashMap<u32, usize> {
    let mut destinations: HashMap<u32, HashSet<Ipv4Net>> = HashMap::new();
    for route in model.sample.routes.iter().filter(|route| wanted(route.table, Tables::All)) {
        for link in route.hops.iter().filter_map(|hop| hop.link) {
            destinations.entry(link).or_default().insert(route.destination);
        }
    }
    destinations.into_iter().map(|(link, destinations)| (link, destinations.len())).collect()
}

fn traffic(model: &Model<'_>, users: &HashMap<u32, usize>, route: &Route) -> Fact<Traffic> {
    if let Some(why) = model.sample.missing.get(&Part::LinkStatistics) {
        return Fact::Absent(format!("the devices' counters: {why}"));
    }
    let link = match route.hops.as_slice() {
        [] => return Fact::Absent("it has no device, and nothing here counts what it drops".to_owned()),
        [hop] => hop.link.and_then(|link| model.link(link)),
        _ => return Fact::Absent("it leads by several next hops".to_owned()),
    };
    let Some(link) = link else { return Fact::Absent("its device is gone".to_owned()) };
    match users.get(&link.index) {
        Some(1) => Fact::Known(Traffic::of(link)),
        rows => Fact::Absent(format!(
            "{} counts the traffic of {} routes together",
            link.name,
            rows.copied().unwrap_or_default()
        )),
    }
}

fn role(model: &Model<'_>, route: &Route) -> Role {
    match route.kind {
        RouteKind::Unicast => unicast_role(model, route),
        RouteKind::Blackhole if model.is_own_block(route) => {
            Role::OwnBlock { pods: model.pods_within(route.destination) }
        }
        RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast => Role::Local,
        _ => Role::Refused,
    }
}

fn unicast_role(model: &Model<'_>, route: &Route) -> Role {
    if model.pod_link_of(route).is_some() {
        return Role::LocalPod { pod: model.pod_name(route.destination.addr()) };
    }
    if let Some(way) = model.way_to_remote_pods(route)
        && (way == Way::Tunnel || model.pool_around(route.destination).is_some())
    {
        return remote_role(model, route, way);
    }
    if model.uses_tunnel(route) {
        return Role::TunnelWithoutNextHop;
    }
    if route.destination.prefix_len() == 0 {
        return Role::DefaultRoute;
    }
    let Some(hop) = route.hops.first() else {
        return route.next_hop_id.map_or(Role::Refused, |id| Role::NextHopObject { id });
    };
    let link = hop.link.and_then(|link| model.link(link));
    if link.is_some_and(is_overlay) {
        return Role::OtherOverlay;
    }
    if model.is_node(route.destination.addr()) && route.destination.prefix_len() == 32 {
        return Role::NodeAddress;
    }
    if hop.has_gateway() {
        return Role::RoutedNetwork;
    }
    link.map_or(Role::ConnectedNetwork, |link| connected_role(model, route, link))
}

fn remote_role(model: &Model<'_>, route: &Route, way: Way) -> Role {
    let next_hops = route.hops.iter().filter_map(|hop| hop.gateway).collect();
    if route.destination.prefix_len() < 32 {
        return Role::RemoteBlock { next_hops, way };
    }
    let address = route.destination.addr();
    let own = model.own_block(address).map(|block| block.destination);
    let borrowed_from = own.or_else(|| model.remote_network(address));
    Role::RemoteAddress { next_hops, way, borrowed_from }
}

fn is_overlay(link: &Link) -> bool {
    matches!(link.name.as_str(), "vxlan.calico" | "wireguard.cali") || link.name.starts_with("flannel")
}

fn connected_role(model: &Model<'_>, route: &Route, link: &Link) -> Role {
    let holds_own = model.own_address().is_some_and(|address| route.destination.contains(&address));
    if holds_own && (route.protocol == PROTOCOL_KERNEL || is_untold(model.sample, route)) {
        return Role::NodeNetwork;
    }
    if route.destination == ZERO_CONFIGURATION {
        return Role::ZeroConfiguration;
    }
    let kind_is_untold = link.kind.is_none() && !model.sample.holds(Part::LinkKinds);
    let is_named_as_bridge = kind_is_untold && is_bridge_name(&link.name);
    if (link.kind.as_deref() != Some("bridge") && !is_named_as_bridge) || is_pod_link(link) {
        return Role::ConnectedNetwork;
    }
    if link.name == "docker0" || is_docker_bridge(&link.name) {
        Role::DockerNetwork
    } else if link.name.starts_with("virbr") {
        Role::LibvirtNetwork
    } else {
        Role::BridgeNetwork
    }
}

/// Whether Docker and libvirt name their bridges so, which other machines are never behind.
pub fn is_bridge_name(name: &str) -> bool {
    name == "docker0" || name.starts_with("virbr") || is_docker_bridge(name)
}

/// Docker names the bridge of a network by the first 12 hexadecimal digits of its identity.
pub fn is_docker_bridge(name: &str) -> bool {
    name.strip_prefix("br-")
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::routing::{Decision, Flow, look_up},
        sample::{Hop, Rule, Sample},
    };

    fn any_route() -> impl Strategy<Value = Route> {
        let kind =
            prop::sample::select(vec![RouteKind::Unicast, RouteKind::Blackhole, RouteKind::Unreachable]);
        let hop = (prop::option::of(0u32..8), 1u32..5, any::<bool>()).prop_map(|(gateway, link, dead)| Hop {
            gateway: gateway.map(|bits| Ipv4Addr::from(0x0a00_0000 | bits)),
            link: Some(link),
            dead,
            weight: 1,
            ..Hop::default()
        });
        let hops = prop::collection::vec(hop, 1..3);
        (0u32..64, 20u8..=32, 0u32..3, prop::sample::select(vec![3u8, 12, 80]), kind, hops).prop_map(
            |(bits, length, metric, protocol, kind, hops)| Route {
                destination: Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 | bits << 2), length).trunc(),
                kind,
                table: TABLE_MAIN,
                protocol,
                metric,
                hops: if kind == RouteKind::Unicast { hops } else { Vec::new() },
                ..Route::default()
            },
        )
    }

    fn node(mut routes: Vec<Route>) -> Sample {
        routes.sort_by_key(|route| (route.destination, route.metric));
        routes.dedup_by_key(|route| (route.destination, route.metric));
        let names = ["lo", "eth0", "tunl0", "cali0"];
        let link = |(index, name): (u32, &str)| Link { index, name: name.to_owned(), ..Link::default() };
        Sample {
            routes,
            links: (1..).zip(names).map(link).collect(),
            rules: vec![Rule::for_all(32766, TABLE_MAIN)],
            given_pools: vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24)],
            ..Sample::default()
        }
    }

    proptest! {
        #[test]
        fn a_look_up_ends_at_a_row_that_is_taken(routes in prop::collection::vec(any_route(), 0..30)) {
            let sample = node(routes);
            let model = Model::new(&sample);
            let (rows, _) = read(&model, Tables::Main);
            prop_assert_eq!(rows.len(), sample.routes.len());
            for row in &rows {
                let destination = row.route.destination.network();
                let flow = Flow { source: None, destination, input_link: None, mark: 0, tos: 0 };
                let taken = match look_up(&model, &flow) {
                    Decision::Route { route, .. } => Some(route),
                    _ => None,
                };
                let found = taken.and_then(|taken| rows.iter().find(|row| std::ptr::eq(row.route, taken)));
                prop_assert!(found.is_none_or(Row::is_taken));
                // The longest match for its own first address is the row itself, unless a longer one begins there.
                if row.is_taken() {
                    let longer = taken.is_some_and(|taken| taken.destination.prefix_len() > row.route.destination.prefix_len());
                    prop_assert!(longer || taken.is_some_and(|taken| std::ptr::eq(taken, row.route)));
                }
            }
        }

        #[test]
        fn any_table_is_judged_without_a_panic(routes in prop::collection::vec(any_route(), 0..30)) {
            let sample = node(routes);
            let model = Model::new(&sample);
            let (rows, _) = read(&model, Tables::All);
            for fault in crate::causes::route_table::judge(&model, &rows) {
                prop_assert!(fault.rows.iter().all(|row| *row < rows.len()));
                prop_assert!(!fault.finding.evidence.is_empty());
            }
        }
    }
}
