//! Filters of clsact queueing disciplines: what a killed probe left before TCX, found and removed one by one.

use std::io;

use anyhow::Context as _;
use bytes::BufMut as _;
use libc::{EINVAL, ENODEV, ENOENT};
use netlink_sys::protocols::NETLINK_ROUTE;
use serde::{Deserialize, Serialize};

use super::raw_netlink::{DUMP, RawNetlink, attribute, put_attribute, text};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const RTM_GETCHAIN: u16 = 102;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;
const TCA_BPF_NAME: u16 = 7;
/// `TC_H_CLSACT` and its two hooks, `linux/pkt_sched.h`.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// `struct tcmsg`.
const HEADER: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Ingress,
    Egress,
}

impl Way {
    fn parent(self) -> u32 {
        match self {
            Self::Ingress => INGRESS,
            Self::Egress => EGRESS,
        }
    }
}

/// One filter, with all that names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    pub link: u32,
    pub way: Way,
    pub preference: u16,
    /// Ethernet protocol, network byte order.
    pub protocol: u16,
    pub handle: u32,
    pub chain: u32,
    pub kind: String,
    /// What a `bpf` filter calls its program.
    pub name: Option<String>,
}

/// Traffic control of the network namespace in which it was opened.
pub struct TrafficControl {
    netlink: RawNetlink,
}

impl TrafficControl {
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self { netlink: RawNetlink::open(NETLINK_ROUTE)? })
    }

    /// The filters of one hook of a device; none where it has no clsact.
    pub fn filters(&self, link: u32, way: Way) -> anyhow::Result<Vec<Filter>> {
        let request = header(link, 0, way.parent(), 0);
        let answer = match self.netlink.request(RTM_GETTFILTER, DUMP, &request) {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot read the filters of a device"),
        };
        let filters = answer.iter().filter(|message| message.kind == RTM_NEWTFILTER);
        Ok(filters.filter_map(|message| read_filter(link, way, &message.payload)).collect())
    }

    /// Removes exactly this filter; `false` where it is gone already.
    pub fn remove(&self, filter: &Filter) -> anyhow::Result<bool> {
        let information = u32::from(filter.preference) << 16 | u32::from(filter.protocol);
        let mut request = header(filter.link, filter.handle, filter.way.parent(), information);
        put_attribute(&mut request, TCA_KIND, &with_zero(&filter.kind))?;
        put_attribute(&mut request, TCA_CHAIN, &filter.chain.to_ne_bytes())?;
        match self.netlink.request(RTM_DELTFILTER, 0, &request) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).context("cannot remove a filter"),
        }
    }

    /// Whether a device has a clsact.
    pub fn has_clsact(&self, link: u32) -> anyhow::Result<bool> {
        Ok(self.clsact(link)?.is_some())
    }

    /// Removes the clsact of a device if nothing at all is in it: no filter of any chain, no chain, no shared
    /// block. Returns whether it was removed.
    pub fn remove_empty_clsact(&self, link: u32) -> anyhow::Result<bool> {
        let Some(clsact) = self.clsact(link)? else { return Ok(false) };
        let shares = |kind| attribute(&clsact, kind).is_some_and(|block| block.iter().any(|byte| *byte != 0));
        if shares(TCA_INGRESS_BLOCK) || shares(TCA_EGRESS_BLOCK) {
            return Ok(false);
        }
        for way in [Way::Ingress, Way::Egress] {
            if !self.filters(link, way)?.is_empty() || self.has_chains(link, way)? {
                return Ok(false);
            }
        }
        let mut request = header(link, CLSACT_HANDLE, CLSACT, 0);
        put_attribute(&mut request, TCA_KIND, b"clsact\0")?;
        match self.netlink.request(RTM_DELQDISC, 0, &request) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).context("cannot remove an empty clsact"),
        }
    }

    fn has_chains(&self, link: u32, way: Way) -> anyhow::Result<bool> {
        match self.netlink.request(RTM_GETCHAIN, DUMP, &header(link, 0, way.parent(), 0)) {
            Ok(chains) => Ok(!chains.is_empty()),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).context("cannot read the chains of a device"),
        }
    }

    /// The attributes of a device's clsact.
    fn clsact(&self, link: u32) -> anyhow::Result<Option<Vec<u8>>> {
        let answer = match self.netlink.request(RTM_GETQDISC, DUMP, &header(link, 0, 0, 0)) {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error).context("cannot read the queueing disciplines"),
        };
        let of_link = |payload: &[u8]| field(payload, 4) == Some(link) && field(payload, 12) == Some(CLSACT);
        Ok(answer
            .into_iter()
            .filter(|message| message.kind == RTM_NEWQDISC)
            .find(|message| of_link(&message.payload))
            .and_then(|message| message.payload.get(HEADER..).map(<[u8]>::to_vec)))
    }
}

/// A device, a filter or a hook that is not there (`net/sched/cls_api.c` answers EINVAL for a hook without qdisc).
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOENT | EINVAL | ENODEV))
}

fn header(link: u32, handle: u32, parent: u32, information: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.put_u32_ne(0);
    bytes.put_u32_ne(link);
    bytes.put_u32_ne(handle);
    bytes.put_u32_ne(parent);
    bytes.put_u32_ne(information);
    bytes
}

fn with_zero(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn field(payload: &[u8], offset: usize) -> Option<u32> {
    payload.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A filter itself; the kernel also tells a preference without a handle, which is none.
fn read_filter(link: u32, way: Way, payload: &[u8]) -> Option<Filter> {
    if field(payload, 4)? != link {
        return None;
    }
    let handle = field(payload, 8).filter(|handle| *handle != 0)?;
    let information = field(payload, 16)?.to_ne_bytes();
    let word = |offset| {
        let two = [information[offset], information[offset + 1]];
        u16::from_ne_bytes(two)
    };
    let (preference, protocol) =
        if cfg!(target_endian = "little") { (word(2), word(0)) } else { (word(0), word(2)) };
    let attributes = payload.get(HEADER..)?;
    let options = attribute(attributes, TCA_OPTIONS).unwrap_or_default();
    Some(Filter {
        link,
        way,
        preference,
        protocol,
        handle,
        chain: attribute(attributes, TCA_CHAIN).and_then(|chain| field(chain, 0)).unwrap_or(0),
        kind: text(attribute(attributes, TCA_KIND)?),
        name: attribute(options, TCA_BPF_NAME).map(text),
    })
}
