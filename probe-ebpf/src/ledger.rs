//! The ledger's maps, and how packets are entered in it.

use aya_ebpf::{
    Global,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap},
};
use probe_common::ledger::{
    BLOCK_ENTRIES, DROP_ENTRIES, DropCount, DropKey, FIRST_FREE, LINK_ENTRIES, LastDrop, LinkEntry, NO_SLOT,
    NODE_BUCKETS, NodeBucket, POOLS, Pair, PoolEntry, Slot, bucket,
};

/// `BPF_F_MMAPABLE`, linux/bpf.h.
const MMAPABLE: u32 = 1 << 10;

/// User space sets its size, and reads it by memory mapping.
#[map]
static LEDGER: Array<Slot> = Array::with_max_entries(FIRST_FREE, MMAPABLE);

#[map]
static LINKS: Array<LinkEntry> = Array::with_max_entries(LINK_ENTRIES, 0);

#[map]
static POOL_LIST: Array<PoolEntry> = Array::with_max_entries(POOLS, 0);

#[map]
static BLOCKS: Array<u32> = Array::with_max_entries(BLOCK_ENTRIES, 0);

#[map]
static NODES: Array<NodeBucket> = Array::with_max_entries(NODE_BUCKETS, 0);

#[map]
static DROPS: HashMap<DropKey, DropCount> = HashMap::with_max_entries(DROP_ENTRIES, 0);

/// Slots of one CPU.
#[unsafe(no_mangle)]
static STRIDE: Global<u32> = Global::new(0);

#[inline(always)]
fn slot(number: u32) -> Option<*mut Slot> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    LEDGER.get_ptr_mut(cpu.wrapping_mul(STRIDE.load()).wrapping_add(number))
}

/// Enters a buffer and its segments. For tc programs only.
#[inline(always)]
pub(crate) fn enter(number: u32, pair: Pair, segments: u64) {
    if let Some(slot) = slot(number) {
        // SAFETY: the slot is this CPU's, and tc programs run with bottom halves off, one after the other.
        let words = unsafe { &mut (*slot).words };
        words[pair as usize] += segments;
        words[pair as usize + 1] += 1;
    }
}

/// Adds to one word. For tc programs only.
#[inline(always)]
pub(crate) fn add(number: u32, word: u32, amount: u64) {
    if let Some(slot) = slot(number)
        && let Some(word) = {
            // SAFETY: as in `enter`.
            unsafe { (*slot).words.get_mut(word as usize) }
        }
    {
        *word += amount;
    }
}

/// Sets one word, where only the last value counts. For tc programs only.
#[inline(always)]
pub(crate) fn note(number: u32, word: u32, value: u64) {
    if let Some(slot) = slot(number)
        && let Some(word) = {
            // SAFETY: as in `enter`.
            unsafe { (*slot).words.get_mut(word as usize) }
        }
    {
        *word = value;
    }
}

/// Enters a buffer from where an interrupt may do the same on this CPU.
#[inline(always)]
pub(crate) fn enter_atomically(number: u32, pair: Pair, segments: u64) {
    add_atomically(number, pair as u32, segments);
    add_atomically(number, pair as u32 + 1, 1);
}

#[inline(always)]
pub(crate) fn add_atomically(number: u32, word: u32, amount: u64) {
    if let Some(slot) = slot(number) {
        // SAFETY: the pointer is to an aligned word within a slot: `word` is a constant below `WORDS`.
        unsafe { add_to(&raw mut (*slot).words[word as usize], amount) };
    }
}

/// A word of this CPU as it is now.
#[inline(always)]
pub(crate) fn word(number: u32, word: u32) -> u64 {
    // SAFETY: the pointer is to an aligned word within a slot: `word` is a constant below `WORDS`.
    slot(number).map_or(0, |slot| unsafe { (&raw const (*slot).words[word as usize]).read_volatile() })
}

/// An atomic addition whose result is not used: the only one that kernels before 5.12 have.
///
/// # Safety
/// The word must be aligned, and valid memory of a map.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn add_to(word: *mut u64, amount: u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: as the caller promises.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, amount) };
}

/// The same where the standard library has it, which for BPF it has not.
#[cfg(not(target_arch = "bpf"))]
unsafe fn add_to(word: *mut u64, amount: u64) {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: as the caller promises.
    unsafe { AtomicU64::from_ptr(word) }.fetch_add(amount, Ordering::Relaxed);
}

/// The first slot of a pod interface.
#[inline(always)]
pub(crate) fn link_slot(index: u32) -> u32 {
    match LINKS.get(index & (LINK_ENTRIES - 1)) {
        Some(entry) if entry.index == index => entry.slot,
        _ => NO_SLOT,
    }
}

/// A block, for an address within a pool.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Its first address.
    pub base: u32,
    pub slot: u32,
}

#[inline(always)]
pub(crate) fn block(address: u32) -> Option<Block> {
    let mut index = 0;
    while index < POOLS {
        let pool = POOL_LIST.get(index)?;
        if pool.blocks == 0 {
            return None;
        }
        if address & pool.mask == pool.base {
            return Some(block_in(pool, address));
        }
        index += 1;
    }
    None
}

#[inline(always)]
fn block_in(pool: &PoolEntry, address: u32) -> Block {
    let number = (address - pool.base) >> (pool.shift & 31);
    let slot = if number < pool.blocks { BLOCKS.get(pool.first + number).copied() } else { None };
    Block { base: pool.base + (number << (pool.shift & 31)), slot: slot.unwrap_or(NO_SLOT) }
}

/// The slot of a node's address; `LOCAL` for this node's.
#[inline(always)]
pub(crate) fn node(address: u32) -> u32 {
    let Some(bucket) = NODES.get(bucket(address)) else { return NO_SLOT };
    let mut index = 0;
    while index < bucket.addresses.len() {
        if bucket.addresses[index] == address {
            return bucket.slots[index];
        }
        index += 1;
    }
    NO_SLOT
}

/// Enters a drop under its key; false where there is no room for a new key.
#[inline(always)]
pub(crate) fn enter_drop(key: &DropKey, segments: u64, last: LastDrop) -> bool {
    const ONLY_NEW: u64 = 1;
    if count_drop(key, segments, last) {
        return true;
    }
    // Where two CPUs meet a new key at once, the one that comes second finds the other's entry. The value is
    // none that the compiler knows, or it would share the memory of a global of the same bytes.
    DROPS.insert(key, DropCount { segments, buffers: 1, last }, ONLY_NEW).is_ok()
        || count_drop(key, segments, last)
}

#[inline(always)]
fn count_drop(key: &DropKey, segments: u64, last: LastDrop) -> bool {
    let Some(count) = DROPS.get_ptr_mut(key) else { return false };
    // SAFETY: entries of a preallocated hash stay valid memory; all words are aligned, and any bytes are a
    // packet.
    unsafe {
        add_to(&raw mut (*count).segments, segments);
        add_to(&raw mut (*count).buffers, 1);
        (&raw mut (*count).last).write_volatile(last);
    }
    true
}
