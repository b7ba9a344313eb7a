//! The pod pools, and who said so. Flags win over the datastore, it over Felix' sets, they over
//! BIRD's configuration, and that over what the routes imply.

use std::{
    collections::{BTreeSet, HashSet},
    net::Ipv4Addr,
    ops::RangeInclusive,
};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{is_calico_protocol, is_pod_link, is_tunnel_link, is_untold};
use crate::sample::{Route, RouteKind, Sample};

/// The shortest prefix that routes alone may imply as a pool: longer ones would make a target in a block whose
/// route is gone look foreign, shorter ones would swallow foreign networks.
const IMPLIED_LENGTH: u8 = 16;

/// The block sizes that Calico allows.
const BLOCK_LENGTHS: RangeInclusive<u8> = 20..=32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolSource {
    /// `--pool`.
    Flag,
    /// `--facts`: the datastore's own list.
    Datastore,
    /// Felix' set of all pools.
    FelixSet,
    /// The filters that confd wrote for BIRD.
    BirdConfiguration,
    /// The routes to pods, widened.
    Routes,
}

impl PoolSource {
    pub fn words(self) -> &'static str {
        match self {
            Self::Flag => "from --pool",
            Self::Datastore => "from the datastore",
            Self::BirdConfiguration => "from BIRD's configuration",
            Self::FelixSet => "from Felix' set of pools",
            Self::Routes => "implied by the routes",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    pub cidr: Ipv4Net,
    pub source: PoolSource,
}

/// The pools by the best source that has any.
pub fn find(sample: &Sample) -> Vec<Pool> {
    let made =
        |cidrs: &[Ipv4Net], source| cidrs.iter().map(|cidr| Pool { cidr: cidr.trunc(), source }).collect();
    if !sample.given_pools.is_empty() {
        return made(&sample.given_pools, PoolSource::Flag);
    }
    if let Some(datastore) = sample.datastore.known() {
        // A disabled pool gives out no more addresses; those that it gave stay in use.
        let cidrs: Vec<Ipv4Net> = datastore.pools.iter().map(|pool| pool.cidr).collect();
        if !cidrs.is_empty() {
            return made(&cidrs, PoolSource::Datastore);
        }
    }
    let told =
        [(&sample.sets.pools, PoolSource::FelixSet), (&sample.bird_pools, PoolSource::BirdConfiguration)];
    for (pools, source) in told {
        if let Some(pools) = pools.known().filter(|pools| !pools.is_empty()) {
            return made(pools, source);
        }
    }
    implied(sample)
}

/// The networks of pod routes, widened, without those that hold an address of the underlay.
fn implied(sample: &Sample) -> Vec<Pool> {
    let devices = Devices::of(sample);
    let underlay = underlay(sample, &devices);
    let mut cidrs: Vec<Ipv4Net> = sample
        .routes
        .iter()
        .filter(|route| leads_to_pods(sample, &devices, route))
        .map(|route| widened(&underlay, route.destination))
        .collect();
    cidrs.sort_unstable();
    cidrs.dedup();
    let all = Ipv4Net::aggregate(&cidrs);
    all.into_iter().map(|cidr| Pool { cidr, source: PoolSource::Routes }).collect()
}

/// Indices of the devices that pods' traffic takes.
struct Devices {
    pods: HashSet<u32>,
    tunnel: Option<u32>,
}

impl Devices {
    fn of(sample: &Sample) -> Self {
        let links = || sample.links.iter();
        Self {
            pods: links().filter(|link| is_pod_link(link)).map(|link| link.index).collect(),
            tunnel: links().find(|link| is_tunnel_link(link)).map(|link| link.index),
        }
    }

    fn leads_to_pod(&self, route: &Route) -> bool {
        route.hops.iter().filter_map(|hop| hop.link).any(|link| self.pods.contains(&link))
    }

    fn leads_into_tunnel(&self, route: &Route) -> bool {
        route.hops.iter().any(|hop| hop.link.is_some() && hop.link == self.tunnel)
    }
}

fn leads_to_pods(sample: &Sample, devices: &Devices, route: &Route) -> bool {
    let length = route.destination.prefix_len();
    match route.kind {
        RouteKind::Unicast => {
            length > 8
                && route.table != 255
                && (devices.leads_into_tunnel(route) || devices.leads_to_pod(route))
        }
        RouteKind::Blackhole => {
            (is_calico_protocol(route.protocol) && length > 8)
                || (is_untold(sample, route) && BLOCK_LENGTHS.contains(&length))
        }
        _ => false,
    }
}

fn widened(underlay: &BTreeSet<Ipv4Addr>, destination: Ipv4Net) -> Ipv4Net {
    let length = destination.prefix_len().min(IMPLIED_LENGTH);
    let Ok(wide) = Ipv4Net::new(destination.addr(), length) else { return destination };
    let wide = wide.trunc();
    let holds_underlay = underlay.range(wide.network()..=wide.broadcast()).next().is_some();
    if holds_underlay { destination } else { wide }
}

/// Addresses that are certainly no pod's: this node's own but for the tunnel's, and its routers and other nodes.
fn underlay(sample: &Sample, devices: &Devices) -> BTreeSet<Ipv4Addr> {
    let of_pods = sample.routes.iter().filter(|route| devices.leads_to_pod(route));
    let pods: HashSet<Ipv4Addr> = of_pods
        .filter(|route| route.destination.prefix_len() == 32)
        .map(|route| route.destination.addr())
        .collect();
    // VXLAN's next hops are addresses out of the blocks that they lead to.
    let is_of_another = |route: &Route, gateway: &Ipv4Addr| {
        route.destination.prefix_len() == 0 || !route.destination.contains(gateway)
    };
    let others = sample.routes.iter().filter(|route| !devices.leads_to_pod(route));
    let gateways = others.flat_map(|route| {
        route.hops.iter().filter_map(|hop| hop.gateway).filter(move |gateway| is_of_another(route, gateway))
    });
    let gateways = gateways.filter(|gateway| !pods.contains(gateway));
    let own = sample.addresses.iter().filter(|own| Some(own.link) != devices.tunnel).map(|own| own.address);
    own.filter(|address| !address.is_loopback()).chain(gateways).collect()
}
