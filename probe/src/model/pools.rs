//! The pod pools, and who said so. A pool is asked of flags, then of Felix' sets, then of the routes.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{is_calico_protocol, is_pod_link};
use crate::sample::{Route, RouteKind, Sample};

/// The shortest prefix that routes alone may imply as a pool: longer ones would make a target in a block whose
/// route is gone look foreign, shorter ones would swallow foreign networks.
const IMPLIED_LENGTH: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolSource {
    /// `--pool`.
    Flag,
    /// Felix' set of all pools.
    FelixSet,
    /// The routes to pods, widened.
    Routes,
}

impl PoolSource {
    pub fn words(self) -> &'static str {
        match self {
            Self::Flag => "from --pool",
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
    if let Some(pools) = sample.sets.pools.known()
        && !pools.is_empty()
    {
        return made(pools, PoolSource::FelixSet);
    }
    implied(sample)
}

/// The networks of pod routes, widened, without those that hold an address of an underlay device.
fn implied(sample: &Sample) -> Vec<Pool> {
    let mut cidrs: Vec<Ipv4Net> = sample
        .routes
        .iter()
        .filter(|route| leads_to_pods(sample, route))
        .map(|route| widened(sample, route.destination))
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
        RouteKind::Blackhole => is_calico_protocol(route.protocol) && route.destination.prefix_len() > 8,
        _ => false,
    }
}

fn widened(sample: &Sample, destination: Ipv4Net) -> Ipv4Net {
    let length = destination.prefix_len().min(IMPLIED_LENGTH);
    let Ok(wide) = Ipv4Net::new(destination.addr(), length) else { return destination };
    let holds_underlay = sample.addresses.iter().any(|address| {
        wide.contains(&address.address)
            && !is_tunnel_address(sample, address.link)
            && !is_loopback(address.address)
    });
    if holds_underlay { destination } else { wide.trunc() }
}

fn is_tunnel_address(sample: &Sample, link: u32) -> bool {
    sample.links.iter().any(|other| other.index == link && other.name == "tunl0")
}

fn is_loopback(address: Ipv4Addr) -> bool {
    address.is_loopback()
}
