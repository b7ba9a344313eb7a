//! The ledger: one array of slots, in which every packet between pods is entered at each place that it passes.
//!
//! Index = CPU × stride + slot number. Slots are written by tc programs of that CPU only, with bottom halves off,
//! so their additions need no atomics; the drop program, which may run inside them, uses atomics.

/// Counters of a slot.
pub const WORDS: usize = 8;

/// One cache line of counters.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Slot {
    pub words: [u64; WORDS],
}

/// A pair of counters within a slot: TCP segments that the stack would put on the wire, and socket buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Pair {
    First = 0,
    Second = 2,
    Third = 4,
    Fourth = 6,
}

/// Slot 0 is nobody's, so that 0 means "none" in the tables.
pub const NO_SLOT: u32 = 0;
/// Slots of the node as a whole: `NODE_FLOW` and `NODE_OTHER`.
pub const NODE_FLOW: u32 = 1;
pub const NODE_OTHER: u32 = 2;
/// The first slot that user space may give away.
pub const FIRST_FREE: u32 = 3;

/// In `NODE_FLOW`, and in a block's slot: encapsulated packets at each point.
pub const TO_TUNNEL: Pair = Pair::First;
pub const TO_WIRE: Pair = Pair::Second;
pub const FROM_WIRE: Pair = Pair::Third;
pub const FROM_TUNNEL: Pair = Pair::Fourth;

/// In `NODE_OTHER`.
pub const HOST_BARE: Pair = Pair::First;
pub const TRANSIT: Pair = Pair::Second;
/// Words of `NODE_OTHER` that count buffers alone.
pub const OUTER_FRAGMENTS: u32 = 4;
pub const TRUNCATED: u32 = 5;
pub const DROPS_WITHOUT_ROOM: u32 = 6;
/// The last bare packet of the host itself, as `LAST_BARE` has it.
pub const LAST_HOST_BARE: u32 = 7;

/// In the first of a pod interface's two slots.
pub const FROM_POD: Pair = Pair::First;
pub const TO_POD: Pair = Pair::Second;
pub const ENCAPSULATED: Pair = Pair::Third;
pub const SAME_NODE: Pair = Pair::Fourth;
/// In the second, which is the next one.
pub const SECOND: u32 = 1;
pub const BARE: Pair = Pair::First;
pub const DROPPED: Pair = Pair::Second;
pub const BARE_TO_POOL: Pair = Pair::Third;
/// Words of the second that tell of the last bare packet to a pool: destination, in host byte order and the upper half,
/// with the device by which it left; and source.
pub const LAST_BARE: u32 = 6;
pub const LAST_BARE_SOURCE: u32 = 7;
/// Slots of a pod interface.
pub const LINK_SLOTS: u32 = 2;

/// In a peer's slot: encapsulated out to it and in from it, each in words of its own.
pub const PEER_OUT: u32 = 0;
pub const PEER_IN: u32 = 4;
/// Within these: segments, socket buffers, bytes, fragments.
pub const PEER_SEGMENTS: u32 = 0;
pub const PEER_BUFFERS: u32 = 1;
pub const PEER_BYTES: u32 = 2;
pub const PEER_FRAGMENTS: u32 = 3;

/// Entries of the table of devices; a device stands at its index modulo this.
pub const LINK_ENTRIES: u32 = 1 << 14;

/// A device in the table. The whole index is kept, so that another device at the same place is not mistaken.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LinkEntry {
    pub index: u32,
    /// First of its slots; `NO_SLOT` for none.
    pub slot: u32,
}

/// Pools that are told apart.
pub const POOLS: u32 = 8;

/// A pool: an address is in it if `address & mask == base`; its block is at
/// `first + ((address - base) >> shift)` of the table of blocks. Host byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PoolEntry {
    pub base: u32,
    pub mask: u32,
    pub shift: u32,
    pub first: u32,
    /// Entries of the table of blocks that are this pool's; 0 ends the list of pools.
    pub blocks: u32,
}

/// Entries of the table of blocks: 4 MiB.
pub const BLOCK_ENTRIES: u32 = 1 << 20;

/// Addresses in one bucket of the table of nodes.
pub const BUCKET: usize = 4;
/// Buckets of the table of nodes: 512 KiB.
pub const NODE_BUCKETS: u32 = 1 << 14;

/// Node addresses, in host byte order, and their slots. An address of 0 is an empty place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NodeBucket {
    pub addresses: [u32; BUCKET],
    /// `LOCAL` for an address of this node.
    pub slots: [u32; BUCKET],
}

/// The slot number of this node's own addresses.
pub const LOCAL: u32 = u32::MAX;

/// The bucket of an address in host byte order: Fibonacci hashing, which spreads neighbouring addresses evenly.
#[expect(clippy::inline_always, reason = "in a kernel program a call costs more than the two operations")]
#[inline(always)]
#[must_use]
pub fn bucket(address: u32) -> u32 {
    address.wrapping_mul(0x9e37_79b9) >> (32 - NODE_BUCKETS.trailing_zeros())
}

/// Whose network namespace a packet was dropped in.
pub const OWN_NAMESPACE: u32 = 0;
pub const OTHER_NAMESPACE: u32 = 1;
pub const UNKNOWN_NAMESPACE: u32 = 2;

/// Where and why packets were dropped.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DropKey {
    /// The function that freed them.
    pub location: u64,
    /// `enum skb_drop_reason` of the running kernel.
    pub reason: u32,
    /// The device of the packet at that moment; 0 for none.
    pub link: u32,
    /// The device by which it came in; 0 for none.
    pub ingress_link: u32,
    /// The inner destination's block, as its first address in host byte order; 0 outside every pool.
    pub block: u32,
    /// 1 where the packet was encapsulated.
    pub encapsulated: u32,
    /// `OWN_NAMESPACE` and its like.
    pub namespace: u32,
}

/// What was dropped for one key.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DropCount {
    pub segments: u64,
    pub buffers: u64,
    pub last: LastDrop,
}

/// The packet that was counted last. Two CPUs that drop at once may mix theirs: packets of one key, so of one block,
/// device and function.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LastDrop {
    /// Source in the upper half, destination in the lower one, both in host byte order. Inner addresses where the
    /// packet was encapsulated.
    pub addresses: u64,
    /// Likewise the outer ones; 0 where it was not.
    pub outer: u64,
    pub mark: u32,
    /// IPv4 protocol number.
    pub protocol: u32,
}

/// Drop keys that are told apart.
pub const DROP_ENTRIES: u32 = 4096;

/// What the counting drop program knows of the running kernel beside `trace::Offsets`: offsets in bytes within
/// `struct sk_buff` and `struct skb_shared_info`, from BTF.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DropOffsets {
    pub data: u32,
    pub end: u32,
    pub mac_header: u32,
    pub protocol: u32,
    /// `struct skb_shared_info`.
    pub segments: u32,
    /// Inode of the network namespace that is observed.
    pub namespace: u32,
}

/// The code of a function whose frees are no drops, as addresses; empty where symbols are hidden.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CodeRange {
    pub start: u64,
    pub end: u64,
}

const _: () = assert!(size_of::<Slot>() == 64);
const _: () = assert!(size_of::<LinkEntry>() == 8);
const _: () = assert!(size_of::<PoolEntry>() == 20);
const _: () = assert!(size_of::<NodeBucket>() == 32);
const _: () = assert!(size_of::<DropKey>() == 32);
const _: () = assert!(size_of::<DropCount>() == 40);
const _: () = assert!(size_of::<DropOffsets>() == 24);
const _: () = assert!(size_of::<CodeRange>() == 16);

#[cfg(feature = "user")]
mod user {
    use super::{CodeRange, DropCount, DropKey, DropOffsets, LinkEntry, NodeBucket, PoolEntry, Slot};

    // SAFETY: repr(C), of integers only, without implicit padding (asserted by size).
    unsafe impl aya::Pod for Slot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for LinkEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PoolEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NodeBucket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DropCount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DropKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DropOffsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for CodeRange {}
}
