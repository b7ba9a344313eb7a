//! Followed packets: what the taps and the drop program report of them.

/// Kernel stack frames that a drop event carries: enough to reach the caller of `nf_hook_slow`.
pub const STACK_FRAMES: usize = 8;

/// Bytes of the cookie at the start of a probe's payload.
pub const COOKIE: usize = 16;

/// `TraceEvent::kind`: seen by a tap.
pub const SEEN: u32 = 0;
/// `TraceEvent::kind`: freed as a drop.
pub const DROPPED: u32 = 1;

/// `TraceEvent::flags`: the packet was behind an IPIP header.
pub const ENCAPSULATED: u8 = 1;
/// `TraceEvent::flags`: an ICMP error that quotes a followed packet.
pub const QUOTED: u8 = 2;

/// `Follow::mode`: by cookie.
pub const BY_COOKIE: u32 = 0;
/// `Follow::mode`: by a pair of addresses.
pub const BY_PAIR: u32 = 1;

/// What is followed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Follow {
    pub cookie: [u8; COOKIE],
    pub mode: u32,
    pub source: [u8; 4],
    pub target: [u8; 4],
}

/// Offsets in bytes of what the drop program reads, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Offsets {
    /// `struct sk_buff`.
    pub head: u32,
    pub network_header: u32,
    pub length: u32,
    pub device: u32,
    pub socket: u32,
    pub ingress_link: u32,
    pub mark: u32,
    /// `struct net_device`.
    pub device_index: u32,
    pub device_namespace: u32,
    /// `struct sock`.
    pub socket_namespace: u32,
    /// `struct net`.
    pub namespace_inode: u32,
}

/// One followed packet at one place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TraceEvent {
    /// The function that freed it.
    pub location: u64,
    /// Return addresses, innermost first; zero where there are no more.
    pub stack: [u64; STACK_FRAMES],
    pub kind: u32,
    /// Index of the device; 0 for none.
    pub link: u32,
    pub ingress_link: u32,
    pub mark: u32,
    pub outer_source: [u8; 4],
    pub outer_destination: [u8; 4],
    pub source: [u8; 4],
    pub destination: [u8; 4],
    /// Bytes from the (outer) IPv4 header on.
    pub length: u32,
    /// `enum skb_drop_reason` of the running kernel.
    pub reason: u32,
    /// Inode of the network namespace; 0 where it is unknown.
    pub namespace: u32,
    pub sequence: u16,
    pub protocol: u8,
    /// `PACKET_*` of `linux/if_packet.h`; 4 is outgoing.
    pub packet_type: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub flags: u8,
    pub flow: u8,
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<Follow>() == 28);
const _: () = assert!(size_of::<Offsets>() == 44);
const _: () = assert!(size_of::<TraceEvent>() == 128);

#[cfg(feature = "user")]
mod user {
    use super::{Follow, Offsets, TraceEvent};

    // SAFETY: repr(C), of integers only, without implicit padding (asserted by size).
    unsafe impl aya::Pod for Follow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TraceEvent {}
}
