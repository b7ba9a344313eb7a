//! What the kernel has now, as it tells it, and requests that change it.

use std::io;

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::{
    packet_core::Parseable as _,
    packet_route::{link::LinkMessage, route::RouteMessage},
};

use super::messages::{KeptAddress, KeptLink, KeptRoute, UP, link, link_flags};
use crate::{
    sample::{Link, Route},
    sources::{
        netlink::{read_link, read_route},
        next_hops,
        raw_netlink::{DUMP, RawNetlink},
    },
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Where a route is entered among those of the same destination, type of service and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    First,
    Last,
}

/// rtnetlink of the network namespace in which it was opened.
pub struct Kernel {
    netlink: RawNetlink,
}

impl Kernel {
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self { netlink: RawNetlink::open(NETLINK_ROUTE)? })
    }

    pub fn links(&self) -> anyhow::Result<Vec<(KeptLink, Link)>> {
        let payloads = self.dump(RTM_GETLINK, RTM_NEWLINK, &link(0)).context("cannot read the devices")?;
        let links = payloads.into_iter().filter_map(|payload| {
            let read = read_link(&LinkMessage::parse(payload.as_slice()).ok()?);
            Some((KeptLink::new(payload)?, read))
        });
        Ok(links.collect())
    }

    pub fn addresses(&self) -> anyhow::Result<Vec<KeptAddress>> {
        let payloads = self.dump(RTM_GETADDR, RTM_NEWADDR, &[0; 8]).context("cannot read the addresses")?;
        Ok(payloads.into_iter().filter_map(KeptAddress::new).collect())
    }

    /// The IPv4 routes of all tables, in the kernel's order.
    pub fn routes(&self) -> anyhow::Result<Vec<(KeptRoute, Route)>> {
        let (kept, mut routes): (Vec<KeptRoute>, Vec<Route>) = self
            .route_payloads(AF_INET)?
            .into_iter()
            .filter_map(|payload| {
                let read = read_route(&RouteMessage::parse(payload.as_slice()).ok()?)?;
                Some((KeptRoute::new(payload)?, read))
            })
            .unzip();
        next_hops::fill(&mut routes, &next_hops::read()?);
        Ok(kept.into_iter().zip(routes).collect())
    }

    /// The IPv6 routes of all tables.
    pub fn ipv6_routes(&self) -> anyhow::Result<Vec<KeptRoute>> {
        Ok(self.route_payloads(AF_INET6)?.into_iter().filter_map(KeptRoute::new).collect())
    }

    fn route_payloads(&self, family: u8) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut request = [0; 12];
        request[0] = family;
        self.dump(RTM_GETROUTE, RTM_NEWROUTE, &request).context("cannot read the routes")
    }

    fn dump(&self, ask: u16, wanted: u16, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let messages = match self.netlink.request(ask, DUMP, request) {
            // What a kernel does not know, it has none of.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            answer => answer?,
        };
        let wanted = messages.into_iter().filter(|message| message.kind == wanted);
        Ok(wanted.map(|message| message.payload).collect())
    }

    pub fn delete_route(&self, request: &[u8]) -> io::Result<()> {
        self.ask(RTM_DELROUTE, 0, request)
    }

    /// Fails with `EEXIST` where exactly this route is there.
    pub fn add_route(&self, request: &[u8], place: Place) -> io::Result<()> {
        let append = if place == Place::Last { NLM_F_APPEND } else { 0 };
        self.ask(RTM_NEWROUTE, NLM_F_CREATE | append, request)
    }

    pub fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        self.ask(RTM_NEWLINK, 0, &link_flags(index, if up { UP } else { 0 }, UP))
    }

    pub fn change_link(&self, request: &[u8]) -> io::Result<()> {
        self.ask(RTM_NEWLINK, 0, request)
    }

    pub fn add_link(&self, request: &[u8]) -> io::Result<()> {
        self.ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, request)
    }

    pub fn delete_link(&self, index: u32) -> io::Result<()> {
        self.ask(RTM_DELLINK, 0, &link(index))
    }

    /// Fails with `EEXIST` where the device has the address.
    pub fn add_address(&self, request: &[u8]) -> io::Result<()> {
        self.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, request)
    }

    fn ask(&self, kind: u16, flags: u16, request: &[u8]) -> io::Result<()> {
        self.netlink.request(kind, flags, request).map(drop)
    }
}
