//! Links, addresses, routes, rules and neighbours, as rtnetlink tells them.

use std::{io, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        neighbour::{self, NeighbourAddress, NeighbourAttribute, NeighbourMessage},
        route::{
            RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
            RouteType,
        },
        rule::{self, RuleAttribute, RuleFlags, RuleMessage},
    },
};
use tokio::task::JoinHandle;

use super::next_hops;
use crate::sample::{
    Address, Hop, Link, LinkStatistics, Neighbour, NeighbourState, NextHop, Route, RouteKind, Rule,
    RuleAction,
};

/// How often a dump is repeated that changes interrupted; after that the node changes too fast to be read.
const DUMP_ATTEMPTS: u32 = 8;
/// The longest that the kernel may take for one message of an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Everything that rtnetlink tells of one network namespace.
pub struct Facts {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub next_hops: Vec<NextHop>,
    pub rules: Vec<Rule>,
    pub neighbours: Vec<Neighbour>,
}

/// A connection to rtnetlink of the network namespace in which it was opened.
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens it in the network namespace of the calling thread; needs a running tokio runtime.
    pub fn open() -> anyhow::Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().context("cannot open a netlink socket")?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Reads everything. Each list is consistent in itself.
    pub async fn read(&self) -> anyhow::Result<Facts> {
        let next_hops = next_hops::read()?;
        let mut routes = self.routes().await?;
        next_hops::fill(&mut routes, &next_hops);
        Ok(Facts {
            links: self.links().await?,
            addresses: self.addresses().await?,
            routes,
            next_hops,
            rules: self.rules().await?,
            neighbours: self.neighbours().await?,
        })
    }

    pub async fn links(&self) -> anyhow::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump("links", request, |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
            _ => None,
        })
        .await
    }

    pub async fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetAddress(message);
        self.dump("addresses", request, |message| match message {
            RouteNetlinkMessage::NewAddress(address) => read_address(&address),
            _ => None,
        })
        .await
    }

    pub async fn routes(&self) -> anyhow::Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetRoute(message);
        self.dump("routes", request, |message| match message {
            RouteNetlinkMessage::NewRoute(route) => read_route(&route),
            _ => None,
        })
        .await
    }

    pub async fn rules(&self) -> anyhow::Result<Vec<Rule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetRule(message);
        self.dump("rules", request, |message| match message {
            RouteNetlinkMessage::NewRule(rule) => Some(read_rule(&rule)),
            _ => None,
        })
        .await
    }

    pub async fn neighbours(&self) -> anyhow::Result<Vec<Neighbour>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetNeighbour(message);
        self.dump("neighbours", request, |message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => read_neighbour(&neighbour),
            _ => None,
        })
        .await
    }

    async fn dump<T>(
        &self,
        what: &str,
        request: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> anyhow::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(list) =
                self.dump_once(&request, &read).await.with_context(|| format!("cannot read the {what}"))?
            {
                return Ok(list);
            }
        }
        bail!("the {what} change faster than they can be read");
    }

    /// One dump; `None` where a change interrupted it.
    async fn dump_once<T>(
        &self,
        request: &RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> anyhow::Result<Option<Vec<T>>> {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self.handle.clone().request(message)?;
        let mut list = Vec::new();
        let mut interrupted = false;
        while let Some(answer) =
            tokio::time::timeout(ANSWER, answers.next()).await.context("the kernel does not answer")?
        {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => list.extend(read(inner)),
                NetlinkPayload::Error(error) if error.raw_code() == -libc::EINTR => interrupted = true,
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                NetlinkPayload::Overrun(_) => interrupted = true,
                _ => {}
            }
        }
        Ok((!interrupted).then_some(list))
    }

    /// The kernel's own route look-up (`RTM_GETROUTE`) for a packet; an error is the look-up's outcome.
    pub async fn route_get(&self, query: RouteQuery) -> anyhow::Result<Result<Route, io::Error>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.header.tos = query.tos;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(query.destination)));
        if let Some(source) = query.source {
            message.header.source_prefix_length = 32;
            message.attributes.push(RouteAttribute::Source(RouteAddress::Inet(source)));
        }
        if let Some(link) = query.input_link {
            message.attributes.push(RouteAttribute::Iif(link));
        }
        if query.mark != 0 {
            message.attributes.push(RouteAttribute::Mark(query.mark));
        }
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(message));
        message.header.flags = NLM_F_REQUEST;
        let mut answers = self.handle.clone().request(message)?;
        while let Some(answer) =
            tokio::time::timeout(ANSWER, answers.next()).await.context("the kernel does not answer")?
        {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                    return read_route(&route)
                        .map(Ok)
                        .context("the kernel answered with a route that is not IPv4");
                }
                NetlinkPayload::Error(error) => return Ok(Err(error.to_io())),
                _ => {}
            }
        }
        bail!("the kernel gave no answer to a route look-up")
    }
}

/// A packet as the route look-up sees it. Without an input device it is one that this host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    pub destination: Ipv4Addr,
    pub source: Option<Ipv4Addr>,
    pub input_link: Option<u32>,
    pub mark: u32,
    pub tos: u8,
}

/// One device.
pub fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        link_layer_type: message.header.link_layer_type.into(),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        running: flags.contains(LinkFlags::Running),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.hardware_address = hardware_address(bytes),
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Link(index) => link.lower = Some(*index),
            LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(*id),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind_of),
            LinkAttribute::Stats64(stats) => {
                link.statistics = LinkStatistics {
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    rx_errors: stats.rx_errors,
                    tx_errors: stats.tx_errors,
                    rx_dropped: stats.rx_dropped,
                    tx_dropped: stats.tx_dropped,
                    collisions: stats.collisions,
                    rx_missed_errors: stats.rx_missed_errors,
                    tx_carrier_errors: stats.tx_carrier_errors,
                }
            }
            _ => {}
        }
    }
    link
}

fn kind_of(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn hardware_address(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 6 {
        return None;
    }
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(std::net::IpAddr::V4(local)) => address = Some(*local),
            AddressAttribute::Address(std::net::IpAddr::V4(peer)) if address.is_none() => {
                address = Some(*peer);
            }
            _ => {}
        }
    }
    Some(Address {
        link: message.header.index,
        address: address?,
        prefix_length: message.header.prefix_len,
        scope: match message.header.scope {
            AddressScope::Universe => 0,
            AddressScope::Site => 200,
            AddressScope::Link => 253,
            AddressScope::Host => 254,
            AddressScope::Other(number) => number,
            _ => 255,
        },
    })
}

/// One IPv4 route; `None` for other families.
pub fn read_route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.address_family != AddressFamily::Inet {
        return None;
    }
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut route = Route {
        destination: Ipv4Net::default(),
        kind: kind(header.kind),
        table: u32::from(header.table),
        protocol: header.protocol.into(),
        scope: header.scope.into(),
        metric: 0,
        tos: header.tos,
        preferred_source: None,
        mtu: None,
        next_hop_id: None,
        hops: Vec::new(),
    };
    let flags =
        RouteNextHopFlags::from_bits_retain(u8::try_from(header.flags.bits() & 0xff).unwrap_or_default());
    let mut hop = read_flags(flags);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => route.preferred_source = Some(*source),
            RouteAttribute::NhId(id) => route.next_hop_id = Some(*id),
            RouteAttribute::Metrics(metrics) => route.mtu = metrics.iter().find_map(route_mtu),
            RouteAttribute::MultiPath(hops) => route.hops = hops.iter().map(read_hop).collect(),
            other => read_hop_attribute(&mut hop, other),
        }
    }
    if route.hops.is_empty() && (hop.gateway.is_some() || hop.link.is_some()) {
        route.hops.push(hop);
    }
    route.destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?.trunc();
    Some(route)
}

fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn read_hop(message: &RouteNextHop) -> Hop {
    let mut hop = read_flags(message.flags);
    // `rtnh_hops` is one less than the weight (ip route's nexthop syntax).
    hop.weight = u16::from(message.hops) + 1;
    hop.link = (message.interface_index != 0).then_some(message.interface_index);
    for attribute in &message.attributes {
        read_hop_attribute(&mut hop, attribute);
    }
    hop
}

fn read_flags(flags: RouteNextHopFlags) -> Hop {
    Hop {
        onlink: flags.contains(RouteNextHopFlags::Onlink),
        dead: flags.contains(RouteNextHopFlags::Dead),
        link_down: flags.contains(RouteNextHopFlags::Linkdown),
        weight: 1,
        ..Hop::default()
    }
}

fn read_hop_attribute(hop: &mut Hop, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => hop.gateway = Some(*gateway),
        RouteAttribute::Oif(link) => hop.link = Some(*link),
        _ => {}
    }
}

fn kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Anycast => RouteKind::Anycast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        RouteType::Nat => RouteKind::Nat,
        other => RouteKind::Other(other.into()),
    }
}

fn read_rule(message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut goto = None;
    let mut rule = Rule {
        tos: header.tos,
        invert: header.flags.contains(RuleFlags::Invert),
        action: RuleAction::Nop,
        ..Rule::for_all(0, table)
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(priority) => goto = Some(*priority),
            RuleAttribute::FwMark(mark) => rule.mark = *mark,
            RuleAttribute::FwMask(mask) => rule.mark_mask = *mask,
            RuleAttribute::Iifname(name) => rule.input_interface = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.output_interface = Some(name.clone()),
            RuleAttribute::Source(std::net::IpAddr::V4(address)) => {
                rule.source = Ipv4Net::new(*address, header.src_len).ok();
            }
            RuleAttribute::Destination(std::net::IpAddr::V4(address)) => {
                rule.destination = Ipv4Net::new(*address, header.dst_len).ok();
            }
            // The kernel reports -1 where nothing is suppressed.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX)
            | RuleAttribute::Protocol(_)
            | RuleAttribute::Other(_) => {}
            RuleAttribute::SuppressPrefixLen(length) => rule.suppress_prefix_length = Some(*length),
            other => rule.unsupported.push(attribute_name(other)),
        }
    }
    rule.action = match header.action {
        rule::RuleAction::ToTable => RuleAction::LookUp(table),
        rule::RuleAction::Goto => goto.map_or(RuleAction::Nop, RuleAction::Goto),
        rule::RuleAction::Nop => RuleAction::Nop,
        rule::RuleAction::Blackhole => RuleAction::Blackhole,
        rule::RuleAction::Unreachable => RuleAction::Unreachable,
        rule::RuleAction::Prohibit => RuleAction::Prohibit,
        other => RuleAction::Other(other.into()),
    };
    rule
}

fn attribute_name(attribute: &RuleAttribute) -> String {
    let debug = format!("{attribute:?}");
    debug.split('(').next().unwrap_or_default().to_owned()
}

fn read_neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut hardware = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(destination)) => {
                address = Some(*destination);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => hardware = hardware_address(bytes),
            _ => {}
        }
    }
    Some(Neighbour {
        link: message.header.ifindex,
        address: address?,
        state: neighbour_state(message.header.state),
        hardware_address: hardware,
    })
}

fn neighbour_state(state: neighbour::NeighbourState) -> NeighbourState {
    match state {
        neighbour::NeighbourState::Incomplete => NeighbourState::Incomplete,
        neighbour::NeighbourState::Reachable => NeighbourState::Reachable,
        neighbour::NeighbourState::Stale => NeighbourState::Stale,
        neighbour::NeighbourState::Delay => NeighbourState::Delay,
        neighbour::NeighbourState::Probe => NeighbourState::Probe,
        neighbour::NeighbourState::Failed => NeighbourState::Failed,
        neighbour::NeighbourState::Noarp => NeighbourState::NoArp,
        neighbour::NeighbourState::Permanent => NeighbourState::Permanent,
        neighbour::NeighbourState::None => NeighbourState::None,
        other => NeighbourState::Other(other.into()),
    }
}
