//! The route table as a document and as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{
    document::{Finding, Header, Node, NotSeen},
    table::{self, Align},
    text::{QUIET_WIDTH, finding_code, fixes, printable, push, shorten},
};
use crate::{
    causes::{
        Cause,
        route_table::Fault,
        routing::{kind_word, route_words},
    },
    model::{
        Model, Way,
        pools::Pool,
        rows::{Role, Row, SharedDevice, TABLE_MAIN, Traffic},
    },
    sample::{Route, RouteKind},
};

#[derive(Debug, Serialize)]
pub struct RoutesDocument {
    #[serde(flatten)]
    pub header: Header,
    pub summary: Summary,
    pub pools: Vec<Pool>,
    pub routes: Vec<RouteEntry>,
    /// Devices whose counters are of several routes together.
    pub shared_devices: Vec<DeviceEntry>,
    /// Other nodes, as far as they are known, to which no block route leads: without pods, or without their routes.
    pub nodes_without_block: Vec<Ipv4Addr>,
    pub findings: Vec<Finding>,
    pub not_seen: Vec<NotSeen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub routes: usize,
    pub local_pods: usize,
    pub own_blocks: usize,
    pub remote_blocks: usize,
    /// The nodes that those are of.
    pub remote_nodes: usize,
    pub faulty_routes: usize,
    /// Those that no row of the table shows among them.
    pub faults: usize,
}

#[derive(Debug, Serialize)]
pub struct RouteEntry {
    pub destination: Ipv4Net,
    /// 254 is the main table.
    pub table: u32,
    #[serde(rename = "type")]
    pub kind: RouteKind,
    /// `RTPROT_*`, as the kernel numbers it.
    pub protocol: u8,
    pub metric: u32,
    pub tos: u8,
    pub next_hops: Vec<HopEntry>,
    /// As `ip route` prints it.
    pub text: String,
    pub role: Role,
    /// The role in words.
    pub role_text: String,
    /// A preferred route for the same destination keeps this one from being taken.
    pub shadowed: bool,
    /// Since the device exists; `null` where it is not this route's alone.
    pub traffic: Option<Traffic>,
    pub traffic_of: Option<String>,
    pub traffic_unknown: Option<String>,
    /// Causes of the findings that this route shows.
    pub faults: Vec<Cause>,
}

#[derive(Debug, Serialize)]
pub struct HopEntry {
    pub gateway: Option<Ipv4Addr>,
    pub device: Option<String>,
    pub onlink: bool,
    /// The device is set down.
    pub dead: bool,
    /// The device has no carrier.
    pub link_down: bool,
    pub weight: u16,
}

#[derive(Debug, Serialize)]
pub struct DeviceEntry {
    pub device: String,
    /// How many destinations the routes of all tables lead to by it.
    pub destinations: usize,
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl RoutesDocument {
    #[must_use]
    pub fn new(
        model: &Model<'_>,
        rows: &[Row<'_>],
        shared: &[SharedDevice<'_>],
        faults: Vec<Fault>,
        not_seen: Vec<NotSeen>,
    ) -> Self {
        let mut causes = causes_by_row(&faults);
        let summary = summary(model, rows, faults.len(), causes.len());
        let entries = rows.iter().enumerate();
        let entries =
            entries.map(|(place, row)| entry(model, row, causes.remove(&place).unwrap_or_default()));
        Self {
            header: Header::new("routes", &model.sample.time, Node::of(model)),
            summary,
            pools: model.pools.clone(),
            routes: entries.collect(),
            shared_devices: shared
                .iter()
                .map(|device| DeviceEntry {
                    device: device.link.name.clone(),
                    destinations: device.destinations,
                    traffic: device.traffic,
                })
                .collect(),
            nodes_without_block: nodes_without_block(model),
            findings: faults.into_iter().map(|fault| fault.finding).collect(),
            not_seen,
        }
    }

    /// The answer, in one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let Summary { routes, local_pods, remote_blocks, remote_nodes, faults, .. } = self.summary;
        let of_nodes = match remote_nodes {
            0 => String::new(),
            _ => format!(" of {}", many(remote_nodes, "node")),
        };
        format!(
            "{}: {} here, {}{of_nodes}, {}",
            many(routes, "route"),
            many(local_pods, "pod"),
            many(remote_blocks, "remote block"),
            many(faults, "fault")
        )
    }

    /// One line of at most eighty characters.
    #[must_use]
    pub fn quiet(&self) -> String {
        shorten(&self.headline(), QUIET_WIDTH)
    }

    /// The whole view.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for finding in &self.findings {
            push(&mut text, "fault", &format!("{} ({})", finding.summary, finding_code(finding)));
            for evidence in &finding.evidence {
                push(&mut text, "why", &evidence.text);
            }
            fixes(&mut text, finding);
        }
        text.push('\n');
        for line in self.table() {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
        self.notes(&mut text);
        printable(&text)
    }

    fn table(&self) -> Vec<String> {
        let several = self.routes.iter().any(|route| route.table != TABLE_MAIN);
        let mut heading = vec![
            ("", Align::Left),
            ("DESTINATION", Align::Left),
            ("VIA", Align::Left),
            ("DEVICE", Align::Left),
            ("ROLE", Align::Left),
            ("IN", Align::Right),
            ("OUT", Align::Right),
        ];
        if several {
            heading.insert(1, ("TABLE", Align::Left));
        }
        let cells = |route: &RouteEntry| {
            let mut cells = route.cells();
            if several {
                cells.insert(1, route.table_name());
            }
            cells
        };
        table::lines(&heading, self.routes.iter().map(cells))
    }

    fn notes(&self, text: &mut String) {
        if let Some(first) = self.pools.first() {
            let pools: Vec<String> = self.pools.iter().map(|pool| pool.cidr.to_string()).collect();
            push(text, "pools", &format!("{} ({})", pools.join(", "), first.source.words()));
        }
        if !self.nodes_without_block.is_empty() {
            let nodes: Vec<String> = self.nodes_without_block.iter().map(ToString::to_string).collect();
            push(
                text,
                "nodes",
                &format!("no block route leads to {}: no pods there, or no routes", nodes.join(", ")),
            );
        }
        push(text, "count", "packets that the route's own device received and sent since it exists");
        for device in &self.shared_devices {
            let DeviceEntry { device, destinations, traffic } = device;
            let Traffic { packets_in, packets_out, .. } = traffic;
            push(
                text,
                "",
                &format!(
                    "{device}: {packets_in} in, {packets_out} out, for {destinations} destinations together"
                ),
            );
        }
        let unseen: Vec<String> =
            self.not_seen.iter().map(|not_seen| format!("not {}: {}", not_seen.what, not_seen.why)).collect();
        if !unseen.is_empty() {
            push(text, "seen", &unseen.join("; "));
        }
    }
}

impl RouteEntry {
    fn cells(&self) -> Vec<String> {
        let joined = |words: Vec<String>| if words.is_empty() { "–".to_owned() } else { words.join(", ") };
        let hops = || self.next_hops.iter();
        let count = |of: fn(&Traffic) -> u64| {
            self.traffic.as_ref().map_or_else(|| "–".to_owned(), |traffic| of(traffic).to_string())
        };
        let mut devices: Vec<String> = hops().filter_map(|hop| hop.device.clone()).collect();
        devices.dedup();
        vec![
            if self.faults.is_empty() { String::new() } else { "!".to_owned() },
            destination_words(self.destination),
            joined(hops().filter_map(|hop| hop.gateway).map(|gateway| gateway.to_string()).collect()),
            joined(devices),
            format!("{}{}", self.role_text, self.state_words()),
            count(|traffic| traffic.packets_in),
            count(|traffic| traffic.packets_out),
        ]
        .into_iter()
        .map(|cell| printable(&cell.replace('\n', "?")))
        .collect()
    }

    fn state_words(&self) -> &'static str {
        if self.shadowed {
            ", never taken"
        } else if self.next_hops.iter().any(|hop| hop.dead) {
            ", device down"
        } else if self.next_hops.iter().any(|hop| hop.link_down) {
            ", no carrier"
        } else {
            ""
        }
    }

    fn table_name(&self) -> String {
        match self.table {
            TABLE_MAIN => "main".to_owned(),
            253 => "default".to_owned(),
            number => number.to_string(),
        }
    }
}

fn many(count: usize, thing: &str) -> String {
    match count {
        0 => format!("no {thing}"),
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

fn destination_words(destination: Ipv4Net) -> String {
    match destination.prefix_len() {
        0 => "default".to_owned(),
        32 => destination.addr().to_string(),
        _ => destination.to_string(),
    }
}

fn causes_by_row(faults: &[Fault]) -> BTreeMap<usize, Vec<Cause>> {
    let mut causes: BTreeMap<usize, Vec<Cause>> = BTreeMap::new();
    for fault in faults {
        for row in &fault.rows {
            causes.entry(*row).or_default().push(fault.finding.cause);
        }
    }
    causes
}

fn summary(model: &Model<'_>, rows: &[Row<'_>], faults: usize, faulty_routes: usize) -> Summary {
    let mut nodes: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut summary = Summary {
        routes: rows.len(),
        local_pods: 0,
        own_blocks: 0,
        remote_blocks: 0,
        remote_nodes: 0,
        faulty_routes,
        faults,
    };
    for row in rows.iter().filter(|row| !row.shadowed) {
        match &row.role {
            Role::LocalPod { .. } => summary.local_pods += 1,
            Role::OwnBlock { .. } => summary.own_blocks += 1,
            Role::RemoteBlock { next_hops, .. } => {
                summary.remote_blocks += 1;
                nodes.extend(next_hops.iter().filter(|next_hop| model.is_node(**next_hop)));
            }
            _ => {}
        }
    }
    summary.remote_nodes = nodes.len();
    summary
}

fn entry(model: &Model<'_>, row: &Row<'_>, faults: Vec<Cause>) -> RouteEntry {
    let route = row.route;
    let name = |link: Option<u32>| link.and_then(|link| model.link(link)).map(|link| link.name.clone());
    let traffic = row.traffic.known().copied();
    RouteEntry {
        destination: route.destination,
        table: route.table,
        kind: route.kind,
        protocol: route.protocol,
        metric: route.metric,
        tos: route.tos,
        next_hops: route
            .hops
            .iter()
            .map(|hop| HopEntry {
                gateway: hop.gateway,
                device: name(hop.link),
                onlink: hop.onlink,
                dead: hop.dead,
                link_down: hop.link_down,
                weight: hop.weight,
            })
            .collect(),
        text: route_words(model, route),
        role: row.role.clone(),
        role_text: role_words(model, &row.role, route),
        shadowed: row.shadowed,
        traffic,
        traffic_of: traffic.and_then(|_| name(route.hops.first().and_then(|hop| hop.link))),
        traffic_unknown: row.traffic.absent().map(str::to_owned),
        faults,
    }
}

fn nodes_without_block(model: &Model<'_>) -> Vec<Ipv4Addr> {
    let blocks = model.remote_blocks().iter().flat_map(|block| &block.route.hops);
    let reached: BTreeSet<Ipv4Addr> = blocks.filter_map(|hop| hop.gateway).collect();
    model.peers().filter(|peer| !reached.contains(peer)).collect()
}

fn role_words(model: &Model<'_>, role: &Role, route: &Route) -> String {
    let extent = if route.destination.prefix_len() == 32 { "address" } else { "network" };
    match role {
        Role::LocalPod { pod: Some(pod) } => format!("pod {pod}"),
        Role::LocalPod { pod: None } => "pod of this node".to_owned(),
        Role::OwnBlock { pods } => format!("own block (blackhole), {}", many(*pods, "pod")),
        Role::RemoteBlock { next_hops, way } => {
            format!("block {}{}", owner_words(model, next_hops), way_words(*way))
        }
        Role::RemoteAddress { next_hops, way, borrowed_from } => {
            let borrowed = match borrowed_from {
                Some(block) => format!(", borrowed from {block}"),
                None => String::new(),
            };
            format!("pod {}{}{borrowed}", owner_words(model, next_hops), way_words(*way))
        }
        Role::TunnelWithoutNextHop => "into the tunnel, to no node".to_owned(),
        Role::OtherOverlay => "pods by another overlay".to_owned(),
        Role::DefaultRoute => "default route".to_owned(),
        Role::NodeNetwork => "network of this node".to_owned(),
        Role::DockerNetwork => "Docker network".to_owned(),
        Role::LibvirtNetwork => "libvirt network".to_owned(),
        Role::BridgeNetwork => "network of a bridge".to_owned(),
        Role::ZeroConfiguration => "zero configuration".to_owned(),
        Role::ConnectedNetwork => format!("{extent} on a device"),
        Role::NodeAddress => "way to another node".to_owned(),
        Role::RoutedNetwork => format!("{extent} behind a router"),
        Role::Refused => format!("refused ({})", kind_word(route.kind)),
        Role::Local => "address of this node".to_owned(),
        Role::NextHopObject { id } => format!("by next-hop object {id}"),
    }
}

/// A bare route may lead to a node by a router, which does not tell the node.
fn owner_words(model: &Model<'_>, next_hops: &[Ipv4Addr]) -> String {
    let words: Vec<String> = next_hops.iter().map(ToString::to_string).collect();
    let are_nodes = next_hops.iter().all(|next_hop| model.is_node(*next_hop));
    format!("{} {}", if are_nodes { "of" } else { "by way of" }, words.join(" or "))
}

fn way_words(way: Way) -> &'static str {
    match way {
        Way::Tunnel => " through the tunnel",
        Way::Bare => " without encapsulation",
    }
}
