//! Counts drops of pod traffic, by reason, function, devices and block.

use aya_ebpf::{
    Global,
    programs::{BtfTracePointContext, RawTracePointContext},
};
use aya_log_ebpf::warn;
use probe_common::ledger::{
    CodeRange, DROPPED, DROPS_WITHOUT_ROOM, DropKey, DropOffsets, LastDrop, NO_SLOT, NODE_OTHER,
    OTHER_NAMESPACE, OWN_NAMESPACE, SECOND, UNKNOWN_NAMESPACE,
};

use crate::{
    ledger::{Block, add_atomically, block, enter_atomically, enter_drop, link_slot, word},
    memory::{KERNEL_HALF, LEAST_NAMESPACE, namespace_of, read},
    packet::{Ipv4, PROTOCOL_IPIP},
    trace::{HAS_REASON, OFFSETS},
};

#[unsafe(no_mangle)]
static DROP_OFFSETS: Global<DropOffsets> =
    Global::new(DropOffsets { data: 0, end: 0, mac_header: 0, protocol: 0, segments: 0, namespace: 0 });

/// `skb_release_data`, which frees the fragments of a buffer beside it: they are no packets of their own.
#[unsafe(no_mangle)]
static RELEASE_DATA: Global<CodeRange> = Global::new(CodeRange { start: 0, end: 0 });

const ETHER_TYPE_IPV4: u16 = 0x0800_u16.to_be();

/// A buffer that is being freed.
trait Buffer {
    /// A member of `struct sk_buff`.
    fn member<T: Copy + Default>(&self, offset: u32) -> T;

    /// What a pointer to another structure leads to, at an offset of that; zero where it leads nowhere.
    fn behind<T: Copy + Default>(&self, pointer: u64, offset: u32) -> T;

    /// `sk`, as a plain number: the verifier knows it as a pointer that may be null, and wants to see a comparison
    /// with null that the compiler does not make.
    fn socket(&self) -> u64;
}

/// A pointer that the verifier knows as a buffer's, read in place: an offset that is a read-only global is a
/// constant to it.
struct Typed(u64);

impl Buffer for Typed {
    #[inline(always)]
    fn member<T: Copy + Default>(&self, offset: u32) -> T {
        // SAFETY: the verifier knows the pointer as that of a `struct sk_buff`, and the offset is a member's
        // from this kernel's BTF; it refuses the program otherwise. Faults read as zero.
        unsafe { ((self.0 + u64::from(offset)) as *const T).read_volatile() }
    }

    #[inline(always)]
    fn behind<T: Copy + Default>(&self, pointer: u64, offset: u32) -> T {
        // SAFETY: as above; a pointer that is none faults, and reads as zero.
        unsafe { ((pointer + u64::from(offset)) as *const T).read_volatile() }
    }

    #[inline(always)]
    fn socket(&self) -> u64 {
        read(self.0 + u64::from(OFFSETS.load().socket)).unwrap_or_default()
    }
}

/// A pointer of which the verifier knows nothing.
struct Untyped(u64);

impl Buffer for Untyped {
    #[inline(always)]
    fn member<T: Copy + Default>(&self, offset: u32) -> T {
        read(self.0 + u64::from(offset)).unwrap_or_default()
    }

    #[inline(always)]
    fn behind<T: Copy + Default>(&self, pointer: u64, offset: u32) -> T {
        read(pointer + u64::from(offset)).unwrap_or_default()
    }

    #[inline(always)]
    fn socket(&self) -> u64 {
        self.member(OFFSETS.load().socket)
    }
}

pub(crate) fn count_btf(context: &BtfTracePointContext) {
    let reason = if HAS_REASON.load() == 0 { 0 } else { context.arg::<u32>(2) };
    if count(&Typed(context.arg(0)), context.arg(1), reason) == Some(Outcome::FirstWithoutRoom) {
        warn!(context, "the table of drops is full: further kinds of drops are counted together");
    }
}

pub(crate) fn count_raw(context: &RawTracePointContext) {
    let reason = if HAS_REASON.load() == 0 { 0 } else { context.arg::<u32>(2) };
    if count(&Untyped(context.arg(0)), context.arg(1), reason) == Some(Outcome::FirstWithoutRoom) {
        warn!(context, "the table of drops is full: further kinds of drops are counted together");
    }
}

/// What became of a drop of pod traffic.
#[derive(PartialEq, Eq)]
enum Outcome {
    Counted,
    /// The first on this CPU that found no room: worth a message, the next ones are not.
    FirstWithoutRoom,
}

/// Where a buffer's parts are, as addresses.
struct Layout {
    head: u64,
    network_header: u64,
}

#[inline(always)]
fn count(buffer: &impl Buffer, location: u64, reason: u32) -> Option<Outcome> {
    if buffer.member::<u16>(DROP_OFFSETS.load().protocol) != ETHER_TYPE_IPV4 {
        return None;
    }
    let head: u64 = buffer.member(OFFSETS.load().head);
    let network_header = head + u64::from(buffer.member::<u16>(OFFSETS.load().network_header));
    let layout = Layout { head, network_header };
    let outer = Ipv4::at(network_header)?;
    let encapsulated = outer.protocol == PROTOCOL_IPIP && !outer.fragment;
    let header = if encapsulated { Ipv4::at(network_header + u64::from(outer.length))? } else { outer };
    let to = block(header.destination);
    let ingress_link: u32 = buffer.member(OFFSETS.load().ingress_link);
    let from = if encapsulated { NO_SLOT } else { link_slot(ingress_link) };
    if to.is_none() && from == NO_SLOT && block(header.source).is_none() {
        return None;
    }
    let range = RELEASE_DATA.load();
    if location >= range.start && location < range.end {
        return None;
    }
    let place = Place::of(buffer);
    let segments = segments(buffer, &layout);
    if from != NO_SLOT
        && place.namespace == OWN_NAMESPACE
        && place.link != 0
        && is_on_its_way(buffer, &layout)
    {
        enter_atomically(from + SECOND, DROPPED, segments);
    }
    let key = key(location, reason, ingress_link, &place, to, encapsulated);
    let last = LastDrop {
        addresses: pair(&header),
        outer: if encapsulated { pair(&outer) } else { 0 },
        mark: buffer.member(OFFSETS.load().mark),
        protocol: u32::from(header.protocol),
    };
    if enter_drop(&key, segments, last) {
        return Some(Outcome::Counted);
    }
    let is_first = word(NODE_OTHER, DROPS_WITHOUT_ROOM) == 0;
    add_atomically(NODE_OTHER, DROPS_WITHOUT_ROOM, 1);
    Some(if is_first { Outcome::FirstWithoutRoom } else { Outcome::Counted })
}

#[inline(always)]
fn pair(header: &Ipv4) -> u64 {
    u64::from(header.source) << 32 | u64::from(header.destination)
}

#[inline(always)]
fn key(
    location: u64,
    reason: u32,
    ingress_link: u32,
    place: &Place,
    to: Option<Block>,
    encapsulated: bool,
) -> DropKey {
    DropKey {
        location,
        reason,
        link: place.link,
        ingress_link,
        block: match to {
            Some(block) => block.base,
            None => 0,
        },
        encapsulated: u32::from(encapsulated),
        namespace: place.namespace,
    }
}

/// Where a buffer was.
struct Place {
    link: u32,
    namespace: u32,
}

impl Place {
    #[inline(always)]
    fn of(buffer: &impl Buffer) -> Self {
        let offsets = OFFSETS.load();
        // `skb->dev` shares its place with other things: only what leads to a sane namespace is a device.
        let device: u64 = buffer.member(offsets.device);
        if device >= KERNEL_HALF {
            let namespace: u64 = buffer.behind(device, offsets.device_namespace);
            if namespace >= KERNEL_HALF {
                let inode: u32 = buffer.behind(namespace, offsets.namespace_inode);
                if inode >= LEAST_NAMESPACE {
                    return Self {
                        link: buffer.behind(device, offsets.device_index),
                        namespace: whose(inode),
                    };
                }
            }
        }
        let socket = buffer.socket();
        let inode = namespace_of(socket, offsets.socket_namespace, offsets.namespace_inode);
        Self { link: 0, namespace: whose(inode) }
    }
}

#[inline(always)]
fn whose(inode: u32) -> u32 {
    if inode == 0 {
        UNKNOWN_NAMESPACE
    } else if inode == DROP_OFFSETS.load().namespace {
        OWN_NAMESPACE
    } else {
        OTHER_NAMESPACE
    }
}

/// Whether the packet was between an ingress and an egress hook: there its data begins at the network header.
/// Behind an egress hook its data begins at the link-layer header, and that hook has counted it; delivered to
/// this node, its data begins behind the network header.
#[inline(always)]
fn is_on_its_way(buffer: &impl Buffer, layout: &Layout) -> bool {
    let data: u64 = buffer.member(DROP_OFFSETS.load().data);
    let mac_header = layout.head + u64::from(buffer.member::<u16>(DROP_OFFSETS.load().mac_header));
    data == layout.network_header && data != mac_header
}

/// Segments of a buffer, from `struct skb_shared_info`, which lies at its end (include/linux/skbuff.h).
#[inline(always)]
fn segments(buffer: &impl Buffer, layout: &Layout) -> u64 {
    let end: u32 = buffer.member(DROP_OFFSETS.load().end);
    let shared = layout.head + u64::from(end);
    let segments: u16 = read(shared + u64::from(DROP_OFFSETS.load().segments)).unwrap_or(0);
    u64::from(segments.max(1))
}
