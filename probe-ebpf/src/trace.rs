//! Follows the packets of one diagnosis: by taps on devices, and where they are dropped.

use aya_ebpf::{
    EbpfContext as _, Global,
    helpers::generated::bpf_get_stack,
    macros::map,
    maps::{Array, RingBuf},
    programs::{BtfTracePointContext, RawTracePointContext, SkBuffContext},
};
use probe_common::trace::{
    BY_PAIR, COOKIE, DROPPED, ENCAPSULATED, Follow, Offsets, QUOTED, SEEN, STACK_FRAMES, TraceEvent,
};

use crate::memory::{load_from_network_header, namespace_of, read};

#[map]
static TRACE_EVENTS: RingBuf = RingBuf::with_byte_size(512 * 1024, 0);

/// Events that found no room.
#[map]
static TRACE_LOST: Array<u64> = Array::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static FOLLOW: Global<Follow> =
    Global::new(Follow { cookie: [0; COOKIE], mode: 0, source: [0; 4], target: [0; 4] });

#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Global<Offsets> = Global::new(Offsets {
    head: 0,
    network_header: 0,
    length: 0,
    device: 0,
    socket: 0,
    ingress_link: 0,
    mark: 0,
    device_index: 0,
    device_namespace: 0,
    socket_namespace: 0,
    namespace_inode: 0,
});

/// Whether the tracepoint's third argument is the drop reason, as BTF tells. Read-only, so that the verifier
/// prunes the branch that would read an argument that is not there.
#[unsafe(no_mangle)]
pub(crate) static HAS_REASON: Global<u32> = Global::new(0);

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_IPIP: u8 = 4;
const ICMP_HEADER: u32 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// The length of a kernel packet that is looked at: two headers with options, an ICMP error, and what it quotes.
const LOOKED_AT: u32 = 512;

/// Bytes of a packet from its network header on.
trait Packet {
    fn load<T: Copy>(&self, offset: u32) -> Option<T>;
}

/// A packet at a tap: read through the helper that finds the network header on every kind of device, whether
/// or not it has a link-layer header.
struct Tapped<'a>(&'a SkBuffContext);

impl Packet for Tapped<'_> {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        load_from_network_header(self.0.as_ptr(), offset)
    }
}

/// A packet that is being freed: its linear part, read as kernel memory.
struct Freed {
    network_header: u64,
}

impl Packet for Freed {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        if offset > LOOKED_AT {
            return None;
        }
        read(self.network_header + u64::from(offset))
    }
}

/// The parts of an IPv4 header that are needed.
#[derive(Clone, Copy)]
struct Ipv4 {
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    first_fragment: bool,
    /// Where its payload starts, from the network header on.
    payload: u32,
}

/// Of an IPv4 header's third pair of bytes: RFC 791.
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
fn ipv4(packet: &impl Packet, offset: u32) -> Option<Ipv4> {
    let header: [u8; 20] = packet.load(offset)?;
    let length = u32::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    Some(Ipv4 {
        source: [header[12], header[13], header[14], header[15]],
        destination: [header[16], header[17], header[18], header[19]],
        protocol: header[9],
        first_fragment: u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET == 0,
        payload: offset + length,
    })
}

/// Fills in the event if the packet is one that is followed.
#[inline(always)]
fn recognise(packet: &impl Packet, event: &mut TraceEvent) -> Option<()> {
    let mut inner = ipv4(packet, 0)?;
    if inner.protocol == PROTOCOL_IPIP && inner.first_fragment {
        event.outer_source = inner.source;
        event.outer_destination = inner.destination;
        event.flags |= ENCAPSULATED;
        inner = ipv4(packet, inner.payload)?;
    }
    event.source = inner.source;
    event.destination = inner.destination;
    event.protocol = inner.protocol;
    if inner.protocol == PROTOCOL_ICMP && inner.first_fragment {
        let icmp: [u8; 2] = packet.load(inner.payload)?;
        event.icmp_type = icmp[0];
        event.icmp_code = icmp[1];
    }
    if FOLLOW.load().mode == BY_PAIR {
        in_pair(packet, &inner, event)
    } else {
        has_cookie(packet, &inner, event)
    }
}

#[inline(always)]
fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

#[inline(always)]
fn in_pair(packet: &impl Packet, inner: &Ipv4, event: &mut TraceEvent) -> Option<()> {
    if is_pair(inner) {
        return Some(());
    }
    if inner.protocol != PROTOCOL_ICMP || !inner.first_fragment || !is_error(event.icmp_type) {
        return None;
    }
    event.flags |= QUOTED;
    let quoted = quoted(packet, inner.payload + ICMP_HEADER)?;
    if is_pair(&quoted) { Some(()) } else { None }
}

#[inline(always)]
fn is_pair(header: &Ipv4) -> bool {
    let follow = FOLLOW.load();
    (same(header.source, follow.source) && same(header.destination, follow.target))
        || (same(header.source, follow.target) && same(header.destination, follow.source))
}

#[inline(always)]
fn same(one: [u8; 4], other: [u8; 4]) -> bool {
    u32::from_ne_bytes(one) == u32::from_ne_bytes(other)
}

/// The packet that an ICMP error quotes, behind at most one IPIP header.
#[inline(always)]
fn quoted(packet: &impl Packet, offset: u32) -> Option<Ipv4> {
    let header = ipv4(packet, offset)?;
    if header.protocol == PROTOCOL_IPIP { ipv4(packet, header.payload) } else { Some(header) }
}

#[inline(always)]
fn has_cookie(packet: &impl Packet, inner: &Ipv4, event: &mut TraceEvent) -> Option<()> {
    if inner.protocol != PROTOCOL_ICMP || !inner.first_fragment {
        return None;
    }
    let mut payload = inner.payload + ICMP_HEADER;
    if is_error(event.icmp_type) {
        event.flags |= QUOTED;
        let quoted = quoted(packet, payload)?;
        if quoted.protocol != PROTOCOL_ICMP {
            return None;
        }
        payload = quoted.payload + ICMP_HEADER;
    } else if event.icmp_type != ECHO_REQUEST && event.icmp_type != ECHO_REPLY {
        return None;
    }
    let found: [u64; 2] = packet.load(payload)?;
    let cookie = FOLLOW.load().cookie;
    let low = u64::from_ne_bytes([
        cookie[0], cookie[1], cookie[2], cookie[3], cookie[4], cookie[5], cookie[6], cookie[7],
    ]);
    let high = u64::from_ne_bytes([
        cookie[8], cookie[9], cookie[10], cookie[11], cookie[12], cookie[13], cookie[14], cookie[15],
    ]);
    if found[0] != low || found[1] != high {
        return None;
    }
    let number: [u8; 3] = packet.load(payload + COOKIE as u32)?;
    event.flow = number[0];
    event.sequence = u16::from_be_bytes([number[1], number[2]]);
    Some(())
}

#[inline(always)]
fn empty() -> TraceEvent {
    TraceEvent {
        location: 0,
        stack: [0; STACK_FRAMES],
        kind: SEEN,
        link: 0,
        ingress_link: 0,
        mark: 0,
        outer_source: [0; 4],
        outer_destination: [0; 4],
        source: [0; 4],
        destination: [0; 4],
        length: 0,
        reason: 0,
        namespace: 0,
        sequence: 0,
        protocol: 0,
        packet_type: 0,
        icmp_type: 0,
        icmp_code: 0,
        flags: 0,
        flow: 0,
        padding: [0; 4],
    }
}

fn report(event: &TraceEvent) {
    if TRACE_EVENTS.output::<TraceEvent>(event, 0).is_err()
        && let Some(lost) = TRACE_LOST.get_ptr_mut(0)
    {
        // SAFETY: the pointer is to the map's only value. A lost update here is one lost event less in a count
        // that is "at least".
        unsafe { *lost += 1 };
    }
}

pub(crate) fn tap(context: &SkBuffContext) {
    let mut event = empty();
    if recognise(&Tapped(context), &mut event).is_none() {
        return;
    }
    // SAFETY: the context of a socket filter is a `__sk_buff`, whose fields the verifier rewrites.
    let skb = unsafe { &*context.skb.skb };
    event.link = skb.ifindex;
    event.ingress_link = skb.ingress_ifindex;
    event.mark = skb.mark;
    event.packet_type = skb.pkt_type as u8;
    event.length = skb.len;
    report(&event);
}

pub(crate) fn drop_btf(context: &BtfTracePointContext) {
    let reason = if HAS_REASON.load() == 0 { 0 } else { context.arg::<u32>(2) };
    let mut event = empty();
    if freed(context.arg(0), &mut event).is_some() {
        finish_drop(context.as_ptr(), context.arg(1), reason, &mut event);
    }
}

pub(crate) fn drop_raw(context: &RawTracePointContext) {
    let reason = if HAS_REASON.load() == 0 { 0 } else { context.arg::<u32>(2) };
    let mut event = empty();
    if freed(context.arg(0), &mut event).is_some() {
        finish_drop(context.as_ptr(), context.arg(1), reason, &mut event);
    }
}

#[inline(always)]
fn finish_drop(context: *mut core::ffi::c_void, location: u64, reason: u32, event: &mut TraceEvent) {
    event.kind = DROPPED;
    event.location = location;
    event.reason = reason;
    // SAFETY: the helper writes at most the size of the array that is given.
    unsafe {
        bpf_get_stack(context, event.stack.as_mut_ptr().cast(), size_of::<[u64; STACK_FRAMES]>() as u32, 0);
    }
    report(event);
}

/// Reads a packet that is being freed.
#[inline(always)]
fn freed(skb: u64, event: &mut TraceEvent) -> Option<()> {
    let offsets = OFFSETS.load();
    let at = |offset: u32| skb + u64::from(offset);
    let head: u64 = read(at(offsets.head))?;
    let network_header: u16 = read(at(offsets.network_header))?;
    recognise(&Freed { network_header: head + u64::from(network_header) }, event)?;
    event.length = read(at(offsets.length)).unwrap_or(0);
    event.mark = read(at(offsets.mark)).unwrap_or(0);
    event.ingress_link = read(at(offsets.ingress_link)).unwrap_or(0);
    let device: u64 = read(at(offsets.device)).unwrap_or(0);
    event.namespace = namespace_of(device, offsets.device_namespace, offsets.namespace_inode);
    if event.namespace != 0 {
        event.link = read(device + u64::from(offsets.device_index)).unwrap_or(0);
    } else {
        let socket: u64 = read(at(offsets.socket)).unwrap_or(0);
        event.namespace = namespace_of(socket, offsets.socket_namespace, offsets.namespace_inode);
    }
    Some(())
}
