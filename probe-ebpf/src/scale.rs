//! Programs for scale: empty ones, from which the cost of a run is subtracted, and two plain counters.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "the macros hand contexts over by value")]

use aya_ebpf::{
    macros::{btf_tracepoint, classifier, map},
    maps::{HashMap, PerCpuArray},
    programs::{BtfTracePointContext, TcContext},
};

const GO_ON: i32 = -1;
/// Where the destination lies in an Ethernet frame with an IPv4 header.
const DESTINATION: usize = 30;
const ENTRIES: u32 = 1 << 14;

#[map]
static PER_CPU: PerCpuArray<u64> = PerCpuArray::with_max_entries(ENTRIES, 0);

#[map]
static HASH: HashMap<u32, u64> = HashMap::with_max_entries(ENTRIES, 0);

#[classifier]
pub fn empty(_context: TcContext) -> i32 {
    GO_ON
}

/// One counter per destination, by a per-CPU array.
#[classifier]
pub fn per_cpu(context: TcContext) -> i32 {
    if let Ok(destination) = context.load::<u32>(DESTINATION)
        && let Some(counter) = PER_CPU.get_ptr_mut(destination & (ENTRIES - 1))
    {
        // SAFETY: the counter is this CPU's, and tc programs run one after the other.
        unsafe { *counter += 1 };
    }
    GO_ON
}

/// One counter per destination, by a hash.
#[classifier]
pub fn hash(context: TcContext) -> i32 {
    if let Ok(destination) = context.load::<u32>(DESTINATION)
        && let Some(counter) = HASH.get_ptr_mut(destination)
    {
        // SAFETY: a lost count harms no benchmark.
        unsafe { *counter += 1 };
    }
    GO_ON
}

#[btf_tracepoint(function = "kfree_skb")]
pub fn empty_drop(_context: BtfTracePointContext) -> i32 {
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
