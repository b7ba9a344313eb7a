//! The kernel programs' entry points. They observe: every one returns the value that lets the packet go on.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    allow(internal_features, reason = "atomic additions, which the standard library lacks for this target")
)]
#![expect(
    clippy::inline_always,
    reason = "a call costs a frame of the small stack and hides bounds from the verifier"
)]
#![expect(clippy::needless_pass_by_value, reason = "the macros of the entry points hand the context over")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes and offsets of headers are small; a conversion that may fail is a branch on a packet's path"
)]

mod drops;
mod followed;
mod ledger;
mod memory;
mod packet;
mod points;
mod trace;

use aya_ebpf::{
    macros::{btf_tracepoint, classifier, raw_tracepoint, socket_filter},
    programs::{BtfTracePointContext, RawTracePointContext, SkBuffContext, TcContext},
};

use crate::packet::{Ethernet, Headless};

/// `TC_ACT_UNSPEC` and `TCX_NEXT`: the next program decides.
const GO_ON: i32 = -1;

/// Ingress of every `cali*`.
#[classifier]
pub fn caliprobe_from_pod(context: TcContext) -> i32 {
    points::from_pod(&context);
    GO_ON
}

/// Egress of every `cali*`.
#[classifier]
pub fn caliprobe_to_pod(context: TcContext) -> i32 {
    points::to_pod(&context);
    GO_ON
}

/// Egress of `tunl0`.
#[classifier]
pub fn caliprobe_to_tunnel(context: TcContext) -> i32 {
    points::to_tunnel(&context);
    GO_ON
}

/// Ingress of `tunl0`.
#[classifier]
pub fn caliprobe_from_tunnel(context: TcContext) -> i32 {
    points::from_tunnel(&context);
    GO_ON
}

/// Egress of the other devices that routes use.
#[classifier]
pub fn caliprobe_to_wire(context: TcContext) -> i32 {
    points::to_wire::<Ethernet>(&context);
    GO_ON
}

/// Ingress of the other devices that routes use.
#[classifier]
pub fn caliprobe_from_wire(context: TcContext) -> i32 {
    points::from_wire::<Ethernet>(&context);
    GO_ON
}

/// The same for devices without a link-layer header.
#[classifier]
pub fn caliprobe_to_wire_headless(context: TcContext) -> i32 {
    points::to_wire::<Headless>(&context);
    GO_ON
}

/// The same for devices without a link-layer header.
#[classifier]
pub fn caliprobe_from_wire_headless(context: TcContext) -> i32 {
    points::from_wire::<Headless>(&context);
    GO_ON
}

/// `skb:kfree_skb` with BTF: counts drops of pod traffic.
#[btf_tracepoint(function = "kfree_skb")]
pub fn count_drop(context: BtfTracePointContext) -> i32 {
    drops::count_btf(&context);
    0
}

/// The same where tracing programs with BTF are not to be had.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn count_drop_raw(context: RawTracePointContext) -> i32 {
    drops::count_raw(&context);
    0
}

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
