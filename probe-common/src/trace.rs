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
    /// The target's port, in host byte order; 0 where ICMP alone is sent.
    pub port: u16,
    /// The protocol of that port.
    pub protocol: u8,
    pub padding: u8,
}

/// The bits of a probe's initial sequence number that every probe of one diagnosis shares: those of the cookie's
/// first four bytes. Below them are the flow, the number, and a zero: an acknowledgement is one more.
pub const SEQUENCE_TAG: u32 = 0xffff_f000;
/// Where the flow begins in an initial sequence number.
pub const SEQUENCE_FLOW: u32 = 9;
/// Where the number of the probe begins in an initial sequence number.
pub const SEQUENCE_NUMBER: u32 = 1;

/// The initial sequence number of a TCP probe. Flows are below eight, numbers below 256.
#[must_use]
pub const fn initial_sequence(cookie: [u8; COOKIE], flow: u8, number: u8) -> u32 {
    let tag = u32::from_be_bytes([cookie[0], cookie[1], cookie[2], cookie[3]]) & SEQUENCE_TAG;
    tag | ((flow as u32 & 7) << SEQUENCE_FLOW) | ((number as u32) << SEQUENCE_NUMBER)
}

/// Flow and number of an initial sequence number of this cookie; of an acknowledgement as well.
#[must_use]
pub const fn read_sequence(cookie: [u8; COOKIE], sequence: u32) -> Option<(u8, u16)> {
    if (sequence ^ initial_sequence(cookie, 0, 0)) & SEQUENCE_TAG != 0 {
        return None;
    }
    Some((((sequence >> SEQUENCE_FLOW) & 7) as u8, ((sequence >> SEQUENCE_NUMBER) & 0xff) as u16))
}

/// `TraceEvent::checksum`: not looked at.
pub const CHECKSUM_UNREAD: u8 = 0;
/// `TraceEvent::checksum`: it verifies.
pub const CHECKSUM_GOOD: u8 = 1;
/// `TraceEvent::checksum`: it covers the pseudo header alone, as the stack leaves it for the device to finish.
pub const CHECKSUM_UNFINISHED: u8 = 2;
/// `TraceEvent::checksum`: neither.
pub const CHECKSUM_BAD: u8 = 3;
/// The longest TCP or UDP packet whose checksum is looked at, without its IPv4 header.
pub const CHECKSUMMED: u32 = 80;

/// Words of the map that says from which ports datagrams were sent: a bit a port.
pub const PORT_WORDS: u32 = 1024;

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
    /// In host byte order; 0 where there are none.
    pub source_port: u16,
    pub destination_port: u16,
    /// The MTU that an ICMP error tells, RFC 1191.
    pub told_mtu: u16,
    pub tcp_flags: u8,
    pub checksum: u8,
    /// Whether the packet, or the one within it, must not be fragmented.
    pub unfragmentable: u8,
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<Follow>() == 32);
const _: () = assert!(size_of::<Offsets>() == 44);
const _: () = assert!(size_of::<TraceEvent>() == 136);

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
