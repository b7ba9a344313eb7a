//! Follows the packets of one diagnosis: by taps on devices, and where they are dropped.

use aya_ebpf::{
    EbpfContext as _, Global,
    helpers::generated::bpf_get_stack,
    macros::map,
    maps::{Array, RingBuf},
    programs::{BtfTracePointContext, RawTracePointContext, SkBuffContext},
};
use probe_common::trace::{CHECKSUM_UNREAD, DROPPED, Offsets, SEEN, STACK_FRAMES, TraceEvent};

use crate::{
    followed::{Packet, checksum, recognise},
    memory::{load_from_network_header, namespace_of, read},
};

#[map]
static TRACE_EVENTS: RingBuf = RingBuf::with_byte_size(512 * 1024, 0);

/// Events that found no room.
#[map]
static TRACE_LOST: Array<u64> = Array::with_max_entries(1, 0);

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

/// The length of a kernel packet that is looked at: two headers with options, an ICMP error, and what it quotes.
const LOOKED_AT: u32 = 512;

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
        source_port: 0,
        destination_port: 0,
        told_mtu: 0,
        tcp_flags: 0,
        checksum: CHECKSUM_UNREAD,
        unfragmentable: 0,
        padding: [0; 3],
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
    let packet = Tapped(context);
    let Some(inner) = recognise(&packet, &mut event) else { return };
    event.checksum = checksum(&packet, &inner);
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
