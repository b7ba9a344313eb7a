//! IPv4 headers of packets at tc hooks: bounds-checked, on devices with and without a link-layer header.

use aya_ebpf::{EbpfContext as _, bindings::__sk_buff, programs::TcContext};

use crate::memory::{load, load_from_network_header, read};

pub(crate) const PROTOCOL_IPIP: u8 = 4;
const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const ETHER_TYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHER_TYPE_VLAN: u16 = 0x8100_u16.to_be();
const ETHER_TYPE_SERVICE_VLAN: u16 = 0x88a8_u16.to_be();
/// Bytes of an IPv4 header without options.
const IPV4_HEADER: u32 = 20;
/// `ETH_P_IP` and version 4.
const ETHERNET_WITH_IPV4: u32 = 0x08004;
/// Bytes of an Ethernet, an IPv4 and a TCP header without options.
const USUAL_HEADERS: u32 = 54;

/// An IPv4 header without its options, as halves in network byte order: packets are aligned to two bytes only.
type Halves = [u16; 10];

/// What a hook needs of an IPv4 header. Addresses in host byte order.
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    pub source: u32,
    pub destination: u32,
    pub protocol: u8,
    /// Any fragment, the first one included.
    pub fragment: bool,
    /// Bytes.
    pub length: u32,
}

impl Ipv4 {
    #[inline(always)]
    fn new(halves: &Halves) -> Option<Self> {
        let first = halves[0].to_ne_bytes()[0];
        let length = u32::from(first & 0x0f) * 4;
        if first >> 4 != 4 || length < 20 {
            return None;
        }
        Some(Self {
            source: address(halves[6], halves[7]),
            destination: address(halves[8], halves[9]),
            protocol: halves[4].to_ne_bytes()[1],
            fragment: halves[3] & 0x3fff_u16.to_be() != 0,
            length,
        })
    }

    /// A header in kernel memory.
    #[inline(always)]
    pub(crate) fn at(address: u64) -> Option<Self> {
        Self::new(&read(address)?)
    }
}

#[inline(always)]
fn address(high: u16, low: u16) -> u32 {
    u32::from(u16::from_be(high)) << 16 | u32::from(u16::from_be(low))
}

/// What a device puts before the IPv4 header.
pub(crate) trait Device {
    fn packet(context: &TcContext) -> Found;

    /// The header behind the outer one, of an encapsulated packet that is no fragment.
    fn inner(context: &TcContext, outer: &Packet) -> Option<Ipv4>;
}

/// The outcome of looking for an IPv4 header.
pub(crate) enum Found {
    Packet(Packet),
    /// Another protocol.
    Other,
    /// Said to be IPv4, and too short for its header.
    Truncated,
}

/// An IPv4 packet at a hook.
pub(crate) struct Packet {
    pub header: Ipv4,
    skb: *mut __sk_buff,
}

impl Packet {
    /// TCP segments that the stack puts on the wire for this buffer; 1 for anything else. `gso_segs` may be left
    /// to be computed by who splits (`SKB_GSO_DODGY`), so that it is computed here as well.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u64 {
        // SAFETY: the context of a classifier is a `__sk_buff`, whose fields the verifier rewrites.
        let (segments, size, length) =
            unsafe { ((*self.skb).gso_segs, (*self.skb).gso_size, (*self.skb).len) };
        if segments > 0 {
            u64::from(segments)
        } else if size == 0 {
            1
        } else {
            u64::from(length.saturating_sub(USUAL_HEADERS).div_ceil(size).max(1))
        }
    }

    /// Bytes of the buffer, its link-layer header included.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: as above.
        u64::from(unsafe { (*self.skb).len })
    }

    /// The device by which it came in; 0 for the host's own.
    #[inline(always)]
    pub(crate) fn ingress_link(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).ingress_ifindex }
    }

    /// The device of the hook.
    #[inline(always)]
    pub(crate) fn link(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).ifindex }
    }

    /// The header behind this one, wherever it lies.
    #[inline(always)]
    fn behind(&self) -> Option<Ipv4> {
        Ipv4::new(&load_from_network_header(self.skb.cast(), self.header.length)?)
    }
}

/// Ethernet: read in place, and through a helper where the headers are not in the linear part. A VLAN tag that
/// no device took off is skipped.
pub(crate) struct Ethernet;

impl Device for Ethernet {
    #[inline(always)]
    fn packet(context: &TcContext) -> Found {
        match direct::<u16>(context, ETHERNET_HEADER - 2) {
            Some(ETHER_TYPE_IPV4) => ipv4_at(context, ETHERNET_HEADER),
            Some(ETHER_TYPE_VLAN | ETHER_TYPE_SERVICE_VLAN) => tagged(context),
            Some(_) => Found::Other,
            None => nonlinear(context),
        }
    }

    #[inline(always)]
    fn inner(context: &TcContext, outer: &Packet) -> Option<Ipv4> {
        let untagged = direct::<u16>(context, ETHERNET_HEADER - 2) == Some(ETHER_TYPE_IPV4);
        if untagged
            && outer.header.length == IPV4_HEADER
            && let Some(halves) = direct::<Halves>(context, ETHERNET_HEADER + IPV4_HEADER as usize)
        {
            return Ipv4::new(&halves);
        }
        outer.behind()
    }
}

#[inline(always)]
fn ipv4_at(context: &TcContext, offset: usize) -> Found {
    match direct::<Halves>(context, offset) {
        Some(halves) => header(context, &halves),
        None => loaded(context, offset),
    }
}

/// A header that does not lie in the linear part.
#[inline(always)]
fn loaded(context: &TcContext, offset: usize) -> Found {
    match load::<Halves>(context.as_ptr(), offset as u32) {
        Some(halves) => header(context, &halves),
        None => Found::Truncated,
    }
}

#[inline(always)]
fn nonlinear(context: &TcContext) -> Found {
    match load::<u16>(context.as_ptr(), ETHERNET_HEADER as u32 - 2) {
        Some(ETHER_TYPE_IPV4) => loaded(context, ETHERNET_HEADER),
        Some(ETHER_TYPE_VLAN | ETHER_TYPE_SERVICE_VLAN) => tagged(context),
        _ => Found::Other,
    }
}

#[inline(always)]
fn tagged(context: &TcContext) -> Found {
    match load::<u16>(context.as_ptr(), (ETHERNET_HEADER + VLAN_TAG) as u32 - 2) {
        Some(ETHER_TYPE_IPV4) => loaded(context, ETHERNET_HEADER + VLAN_TAG),
        _ => Found::Other,
    }
}

/// Devices without a link-layer header: tunl0, and NICs that carry IP alone. Packets begin at their IPv4 header,
/// but on 5.10 those that leave a tunnel begin at the outer Ethernet header: then what would be the source begins
/// with the Ethernet type and the first byte of the outer IPv4 header, and the network header is sought by a helper,
/// which takes longer than all the rest.
pub(crate) struct Headless;

impl Device for Headless {
    #[inline(always)]
    fn packet(context: &TcContext) -> Found {
        if let Some(halves) = direct::<Halves>(context, 0)
            && let Some(found) = Ipv4::new(&halves)
            && found.source >> 12 != ETHERNET_WITH_IPV4
        {
            return Found::Packet(Packet { header: found, skb: context.skb.skb });
        }
        match load_from_network_header::<Halves>(context.as_ptr(), 0) {
            Some(halves) => header(context, &halves),
            None => Found::Truncated,
        }
    }

    #[inline(always)]
    fn inner(_context: &TcContext, outer: &Packet) -> Option<Ipv4> {
        outer.behind()
    }
}

#[inline(always)]
fn header(context: &TcContext, halves: &Halves) -> Found {
    match Ipv4::new(halves) {
        Some(header) => Found::Packet(Packet { header, skb: context.skb.skb }),
        None => Found::Other,
    }
}

/// A value at an offset of the linear part.
#[inline(always)]
fn direct<T: Copy>(context: &TcContext, offset: usize) -> Option<T> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: it lies within the packet's linear part, as was just shown; T is of integers of two bytes, and
    // packets are aligned to two bytes.
    Some(unsafe { *(start as *const T) })
}
