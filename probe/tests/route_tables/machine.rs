//! A node described in a few lines, as `ip` prints them, made into a sample.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use caliprobe::sample::{
    Address, CniResult, FORMAT_VERSION, Fact, FelixSets, Hop, Link, LinkStatistics, NodeIdentity,
    PodInterface, Route, RouteKind, Rule, Sample,
};
use ipnet::Ipv4Net;
use serde::Deserialize;

/// What a case file says of its node. Lists add to those of the base; a link of the same name is replaced.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// `NAME [KIND] [down | no-carrier] [rx N] [tx N]`
    pub links: Vec<String>,
    /// `ADDRESS/LENGTH DEVICE`
    pub addresses: Vec<String>,
    /// As `ip route` prints them.
    pub routes: Vec<String>,
    /// Lines of the base that are not there.
    pub without: Vec<String>,
    /// Felix' set of pools; none where there is no such set.
    pub pools: Option<Vec<Ipv4Net>>,
    /// Felix' set of nodes; none where there is no such set.
    pub hosts: Option<Vec<Ipv4Net>>,
    /// Addresses inside the pod behind a device.
    pub inside: BTreeMap<String, Vec<Ipv4Addr>>,
    /// `namespace/name` of the pods that the CNI set up, by device.
    pub names: BTreeMap<String, String>,
}

impl Machine {
    /// This node, changed as another says.
    pub fn changed(mut self, change: Self) -> Result<Self> {
        for line in &change.without {
            let lists = [&mut self.links, &mut self.addresses, &mut self.routes];
            let before: usize = lists.iter().map(|list| list.len()).sum();
            for list in lists {
                list.retain(|other| other != line);
            }
            let after = self.links.len() + self.addresses.len() + self.routes.len();
            ensure!(after < before, "`without` names what is not there: {line}");
        }
        for link in change.links {
            let name = first_word(&link).to_owned();
            match self.links.iter_mut().find(|other| first_word(other) == name) {
                Some(same) => *same = link,
                None => self.links.push(link),
            }
        }
        self.addresses.extend(change.addresses);
        self.routes.extend(change.routes);
        self.pools = change.pools.or(self.pools);
        self.hosts = change.hosts.or(self.hosts);
        self.inside.extend(change.inside);
        self.names.extend(change.names);
        Ok(self)
    }

    pub fn sample(&self) -> Result<Sample> {
        let links: Vec<Link> =
            (1..).zip(&self.links).map(|(index, line)| link(index, line)).collect::<Result<_>>()?;
        let index = |name: &str| {
            let link = links.iter().find(|link| link.name == name);
            link.map(|link| link.index).with_context(|| format!("no link {name}"))
        };
        let addresses: Vec<Address> =
            self.addresses.iter().map(|line| address(line, &index)).collect::<Result<_>>()?;
        let mut routes: Vec<Route> =
            self.routes.iter().map(|line| route(line, &index)).collect::<Result<_>>()?;
        routes.extend(addresses.iter().map(local_route));
        let mark = |route: &mut Route| {
            for hop in &mut route.hops {
                let link = links.iter().find(|link| Some(link.index) == hop.link);
                hop.dead = link.is_some_and(|link| !link.up);
                hop.link_down = link.is_some_and(|link| !link.carrier);
            }
        };
        routes.iter_mut().for_each(mark);
        let set = |list: &Option<Vec<Ipv4Net>>| match list {
            Some(list) => Fact::Known(list.clone()),
            None => Fact::Absent("not permitted to read ipsets (CAP_NET_ADMIN)".to_owned()),
        };
        let pod_interfaces = self
            .inside
            .iter()
            .map(|(name, addresses)| {
                let (link, name) = (index(name)?, "eth0".to_owned());
                Ok(PodInterface {
                    link,
                    name,
                    up: true,
                    carrier: true,
                    addresses: addresses.clone(),
                    inhabited: None,
                    checksum_errors: None,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Sample {
            format_version: FORMAT_VERSION,
            time: "2018-06-27T08:12:13Z".to_owned(),
            node: NodeIdentity { hostname: "paas-188".to_owned(), ..NodeIdentity::default() },
            addresses,
            rules: [(0, 255), (32766, 254), (32767, 253)]
                .map(|(priority, table)| Rule::for_all(priority, table))
                .to_vec(),
            sets: FelixSets { pools: set(&self.pools), hosts: set(&self.hosts), ..FelixSets::default() },
            cni_results: self.cni_results(&routes, &links),
            pod_interfaces,
            routes,
            links,
            ..Sample::default()
        })
    }

    /// The CNI gave each named pod the address that it has, or that a route leads to its device by.
    fn cni_results(&self, routes: &[Route], links: &[Link]) -> Fact<Vec<CniResult>> {
        if self.names.is_empty() {
            return Fact::Absent("no CNI result cache under /var/lib/cni/results".to_owned());
        }
        let result = |(device, name): (&String, &String)| {
            let (namespace, pod) = name.split_once('/')?;
            let link = links.iter().find(|link| link.name == *device)?;
            let leads = |route: &&Route| route.hops.iter().any(|hop| hop.link == Some(link.index));
            let by_routes = || routes.iter().filter(leads).map(|route| route.destination.addr()).collect();
            Some(CniResult {
                namespace: Some(namespace.to_owned()),
                pod: Some(pod.to_owned()),
                container_id: "c".to_owned(),
                host_interface: Some(device.clone()),
                addresses: self.inside.get(device).cloned().unwrap_or_else(by_routes),
                network_namespace: None,
            })
        };
        Fact::Known(self.names.iter().filter_map(result).collect())
    }
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn link(index: u32, text: &str) -> Result<Link> {
    let mut parts = text.split_whitespace();
    let name = parts.next().context("an empty link")?.to_owned();
    let mut link = Link { index, name, up: true, carrier: true, running: true, mtu: 1500, ..Link::default() };
    while let Some(word) = parts.next() {
        let mut number = || {
            parts.next().and_then(|word| word.parse().ok()).with_context(|| format!("a number after {word}"))
        };
        match word {
            "down" => (link.up, link.carrier) = (false, false),
            "no-carrier" => link.carrier = false,
            "rx" => link.statistics = LinkStatistics { rx_packets: number()?, ..link.statistics },
            "tx" => link.statistics = LinkStatistics { tx_packets: number()?, ..link.statistics },
            kind => link.kind = Some(kind.to_owned()),
        }
    }
    Ok(link)
}

fn address(line: &str, index: &impl Fn(&str) -> Result<u32>) -> Result<Address> {
    let (network, device) = line.split_once(' ').with_context(|| format!("no address: {line}"))?;
    let network: Ipv4Net = network.parse().with_context(|| format!("no address: {line}"))?;
    Ok(Address {
        link: index(device)?,
        address: network.addr(),
        prefix_length: network.prefix_len(),
        scope: 0,
    })
}

/// What the kernel enters for each address.
fn local_route(address: &Address) -> Route {
    Route {
        kind: RouteKind::Local,
        table: 255,
        protocol: 2,
        scope: 254,
        hops: vec![Hop { link: Some(address.link), weight: 1, ..Hop::default() }],
        ..empty_route(Ipv4Net::from(address.address))
    }
}

fn empty_route(destination: Ipv4Net) -> Route {
    Route { destination, table: 254, protocol: 3, ..Route::default() }
}

fn route(line: &str, index: &impl Fn(&str) -> Result<u32>) -> Result<Route> {
    let mut words = line.split_whitespace().peekable();
    let kind = match words.peek() {
        Some(&"blackhole") => RouteKind::Blackhole,
        Some(&"unreachable") => RouteKind::Unreachable,
        Some(&"prohibit") => RouteKind::Prohibit,
        Some(&"throw") => RouteKind::Throw,
        _ => RouteKind::Unicast,
    };
    if kind != RouteKind::Unicast {
        words.next();
    }
    let destination = match words.next().context("an empty route")? {
        "default" => Ipv4Net::default(),
        word if word.contains('/') => word.parse().with_context(|| format!("no route: {line}"))?,
        word => Ipv4Net::from(word.parse::<Ipv4Addr>().with_context(|| format!("no route: {line}"))?),
    };
    let mut route = Route { kind, ..empty_route(destination) };
    let new_hop = || Hop { weight: 1, ..Hop::default() };
    let mut hop = new_hop();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value: {line}"));
        match word {
            "nexthop" => {
                route.hops.extend((hop != new_hop()).then(|| std::mem::replace(&mut hop, new_hop())));
            }
            "via" => hop.gateway = Some(value()?.parse()?),
            "dev" => hop.link = Some(index(value()?)?),
            "onlink" => hop.onlink = true,
            "weight" => hop.weight = value()?.parse()?,
            "metric" => route.metric = value()?.parse()?,
            "table" => route.table = value()?.parse()?,
            "proto" => {
                route.protocol = match value()? {
                    "kernel" => 2,
                    "boot" => 3,
                    "static" => 4,
                    "bird" => 12,
                    number => number.parse()?,
                }
            }
            "scope" | "src" | "mtu" => drop(value()?),
            unknown => bail!("{unknown} in: {line}"),
        }
    }
    route.hops.extend((hop != new_hop()).then_some(hop));
    Ok(route)
}
