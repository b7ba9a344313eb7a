//! The kernel programs' entry points. They observe: every one returns the value that lets the packet go on.
#![no_std]
#![no_main]

mod trace;

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, socket_filter},
    programs::{BtfTracePointContext, RawTracePointContext, SkBuffContext},
};

/// On a packet socket of a device that probes pass: reports those that are followed, and keeps none.
#[socket_filter]
pub fn trace_tap(context: SkBuffContext) -> i64 {
    trace::tap(&context);
    0
}

/// `skb:kfree_skb` with BTF: reports followed packets that are freed as drops.
#[btf_tracepoint(function = "kfree_skb")]
pub fn trace_drop(context: BtfTracePointContext) -> i32 {
    trace::drop_btf(&context);
    0
}

/// The same where tracing programs with BTF are not to be had.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn trace_drop_raw(context: RawTracePointContext) -> i32 {
    trace::drop_raw(&context);
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
