//! What of a node the others are held against: a small part of its sample, so that many fit into memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::outliers::Setting;
use crate::{
    causes::node::{admitted_peers, is_enough},
    model::{Model, TABLE_LOCAL},
    report::document::Finding,
    sample::{Part, RouteKind},
};

/// Where a look at a node is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A saved sample says itself when it was taken, and of which machine.
    Saved { time: Timestamp, machine: Option<Machine> },
    /// Outputs do not say when they were printed; the folder, file or prompt that they are from.
    Pasted { from: String },
}

/// One network namespace of one boot of a kernel: no two machines are equal in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub boot_id: String,
    pub network_namespace: u64,
}

/// How packets for a block of another node leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Without repetition, the smallest first.
    pub gateways: Vec<Ipv4Addr>,
    pub tunnelled: bool,
}

/// A BGP session, as one end shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub established: bool,
    pub state: String,
    pub since: String,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// By which the others know it.
    pub address: Option<Ipv4Addr>,
    pub kernel: String,
    pub seen: Seen,
    /// All that are on its devices but for those of `tunl0` and `lo`.
    pub addresses: BTreeSet<Ipv4Addr>,
    pub tunnel_addresses: BTreeSet<Ipv4Addr>,
    pub own_blocks: BTreeSet<Ipv4Net>,
    /// Pods' addresses that its /32 routes lead to.
    pub pods: BTreeSet<Ipv4Addr>,
    /// To other nodes' blocks, and single addresses.
    pub ways: HashMap<Ipv4Net, Way>,
    /// Destinations of all rows but the default route's and those that are as wide.
    pub destinations: HashSet<Ipv4Net>,
    pub holds_routes: bool,
    pub needs_tunnel: bool,
    /// `cali40all-hosts-net`.
    pub hosts: Option<Vec<Ipv4Net>>,
    /// Peers that are not in that set and whose encapsulated packets come in all the same.
    pub admitted: BTreeSet<Ipv4Addr>,
    /// By the peer's address.
    pub sessions: Option<BTreeMap<Ipv4Addr, Session>>,
    pub settings: BTreeMap<Setting, u32>,
    /// Whether what was shown is enough to call it healthy.
    pub is_enough: bool,
    /// What `check` says of it.
    pub findings: Vec<Finding>,
}

/// Shorter prefixes are as good as a default route: they say nothing of pods.
const WIDEST: u8 = 9;

impl Node {
    /// What a model holds of this, with what `check` found.
    pub fn of(model: &Model<'_>, findings: Vec<Finding>) -> Self {
        let sample = model.sample;
        let tunnel = model.tunnel().map(|tunnel| tunnel.index);
        let loopback = model.link_by_name("lo").map(|link| link.index);
        let is_of_node = |link: u32| Some(link) != tunnel && Some(link) != loopback;
        let routes = sample.routes.iter().filter(|route| route.table != TABLE_LOCAL);
        let leads = |kind: RouteKind| matches!(kind, RouteKind::Unicast | RouteKind::Blackhole);
        let admitted = admitted_peers(model);
        Self {
            name: model.node_name(),
            address: model.own_address(),
            kernel: sample.node.kernel.clone(),
            seen: seen(model),
            addresses: sample
                .addresses
                .iter()
                .filter(|own| is_of_node(own.link))
                .map(|own| own.address)
                .collect(),
            tunnel_addresses: sample
                .addresses
                .iter()
                .filter(|own| Some(own.link) == tunnel)
                .map(|own| own.address)
                .collect(),
            own_blocks: model.own_blocks().iter().map(|route| route.destination).collect(),
            pods: model.pods().iter().map(|pod| pod.address).collect(),
            ways: ways(model),
            destinations: routes
                .filter(|route| leads(route.kind) && route.destination.prefix_len() >= WIDEST)
                .map(|route| route.destination)
                .collect(),
            holds_routes: sample.holds(Part::Routes),
            needs_tunnel: model.needs_tunnel().is_some(),
            hosts: sample.sets.hosts.known().cloned(),
            admitted,
            sessions: sessions(model),
            settings: Setting::all_of(model),
            is_enough: sample.missing.is_empty() || is_enough(sample),
            findings,
        }
    }

    /// Whether a row leads to a network, or to one around it.
    pub(super) fn covers(&self, network: Ipv4Net) -> bool {
        around(network).any(|around| self.destinations.contains(&around))
    }

    /// Whether its set of hosts has an address.
    pub(super) fn lists(&self, address: Ipv4Addr) -> bool {
        self.hosts.as_ref().is_some_and(|hosts| hosts.iter().any(|host| host.contains(&address)))
    }

    /// `paas-187 (172.30.10.187)`, or the name alone.
    pub(super) fn words(&self) -> String {
        self.address.map_or_else(|| self.name.clone(), |address| format!("{} ({address})", self.name))
    }

    /// How many of its pods a network holds.
    pub(super) fn pods_within(&self, network: Ipv4Net) -> usize {
        self.pods.range(network.network()..=network.broadcast()).count()
    }
}

/// A network and all that hold it, from the smallest to the largest.
pub(super) fn around(network: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
    std::iter::successors(Some(network.trunc()), Ipv4Net::supernet)
}

fn seen(model: &Model<'_>) -> Seen {
    let node = &model.sample.node;
    match model.sample.time.parse() {
        Ok(time) if node.pasted_from.is_empty() => {
            let is_known = !node.boot_id.is_empty() && node.network_namespace != 0;
            let machine =
                || Machine { boot_id: node.boot_id.clone(), network_namespace: node.network_namespace };
            Seen::Saved { time, machine: is_known.then(machine) }
        }
        _ => Seen::Pasted { from: node.pasted_from.clone() },
    }
}

/// Where one destination has several rows, the kernel takes the one of the least metric.
fn ways(model: &Model<'_>) -> HashMap<Ipv4Net, Way> {
    let mut ways: HashMap<Ipv4Net, (u32, Way)> = HashMap::new();
    for block in model.remote_blocks() {
        let hops = &block.route.hops;
        if hops.iter().any(|hop| hop.masked_gateway.is_some()) {
            continue;
        }
        let gateways: BTreeSet<Ipv4Addr> = hops.iter().filter_map(|hop| hop.gateway).collect();
        let way = Way { gateways: gateways.into_iter().collect(), tunnelled: block.tunnelled };
        let (destination, metric) = (block.route.destination, block.route.metric);
        if ways.get(&destination).is_none_or(|(other, _)| metric < *other) {
            ways.insert(destination, (metric, way));
        }
    }
    ways.into_iter().map(|(destination, (_, way))| (destination, way)).collect()
}

/// Where several sessions are with one peer, one that is up counts.
fn sessions(model: &Model<'_>) -> Option<BTreeMap<Ipv4Addr, Session>> {
    let bird = model.sample.bird.known()?;
    let mut sessions: BTreeMap<Ipv4Addr, Session> = BTreeMap::new();
    for session in &bird.sessions {
        let shown = Session {
            established: session.established,
            state: session.state.clone(),
            since: session.since.clone(),
        };
        let kept = sessions.entry(session.peer).or_insert_with(|| shown.clone());
        if shown.established && !kept.established {
            *kept = shown;
        }
    }
    Some(sessions)
}
