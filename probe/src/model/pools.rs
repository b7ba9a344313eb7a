//! The pod pools, and who said so. Flags win over the datastore, it over Felix' sets, they over
//! BIRD's configuration, and that over what the routes imply.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{is_calico_protocol, is_pod_link, is_untold};
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

/// The networks of pod routes, widened, without those that hold an address of an underlay device.
fn implied(sample: &Sample) -> Vec<Pool> {
    let underlay = underlay(sample);
    let mut cidrs: Vec<Ipv4Net> = sample
        .routes
        .iter()
        .filter(|route| leads_to_pods(sample, route))
        .map(|route| widened(&underlay, route.destination))
        .collect();
    cidrs.sort_unstable();
    cidrs.dedup();
    let all = Ipv4Net::aggregate(&cidrs);
    all.into_iter().map(|cidr| Pool { cidr, source: PoolSource::Routes }).collect()
}

fn leads_to_pods(sample: &Sample, route: &Route) -> bool {
    let named = |wanted: &dyn Fn(&str) -> bool| {
        route.hops.iter().filter_map(|hop| hop.link).any(|index| {
            sample.links.iter().any(|link| link.index == index && (wanted(&link.name) || is_pod_link(link)))
        })
    };
    match route.kind {
        RouteKind::Unicast => {
            let length = route.destination.prefix_len();
            length > 8 && named(&|name| name == "tunl0") && route.table != 255
        }
        RouteKind::Blackhole => {
            let length = route.destination.prefix_len();
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
fn underlay(sample: &Sample) -> BTreeSet<Ipv4Addr> {
    let tunnel = sample.links.iter().find(|link| link.name == "tunl0").map(|link| link.index);
    let pods: BTreeSet<u32> =
        sample.links.iter().filter(|link| is_pod_link(link)).map(|link| link.index).collect();
    let is_by_pod =
        |route: &Route| route.hops.iter().filter_map(|hop| hop.link).any(|link| pods.contains(&link));
    let pod_addresses: BTreeSet<Ipv4Addr> = sample
        .routes
        .iter()
        .filter(|route| route.destination.prefix_len() == 32 && is_by_pod(route))
        .map(|route| route.destination.addr())
        .collect();
    let gateways = sample.routes.iter().filter(|route| !is_by_pod(route)).flat_map(|route| &route.hops);
    let gateways = gateways.filter_map(|hop| hop.gateway).filter(|gateway| !pod_addresses.contains(gateway));
    let own = sample.addresses.iter().filter(|own| Some(own.link) != tunnel).map(|own| own.address);
    own.filter(|address| !address.is_loopback()).chain(gateways).collect()
}
