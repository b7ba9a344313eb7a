//! What kind of place a drop is, from its reason where the kernel gives one, else from the function that freed
//! the packet. Names, never numbers: the numbers move even inside a stable series.

use crate::{observation::DropSighting, sample::NetfilterHook};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// Reverse-path validation refused the source.
    ReversePath,
    /// The route look-up ended in an error: no route, blackhole, unreachable, prohibit, forwarding off.
    RouteLookUp,
    /// Rules of a hook; `None` where the stack did not tell which.
    Netfilter(Option<NetfilterHook>),
    /// The neighbour did not answer, or there was no room for it.
    Neighbour,
    /// The tunnel device could not send the encapsulated packet.
    TunnelEntry,
    /// No tunnel device took the encapsulated packet that arrived.
    TunnelReceive,
    /// The receiving side of a veth refused the frame, or a bridge had no port for it.
    Device,
    /// A checksum was wrong.
    Checksum,
    /// A queueing discipline, the device's ring or a CPU's backlog had no room. Where the kernel gives no reason the
    /// device's own counters must bear it out.
    Queue,
    /// A filter of traffic control, or another's program there; the same holds.
    Filter,
    /// A socket had no use for it: no fault of the path.
    Socket,
    Other,
}

impl DropKind {
    pub fn of(drop: &DropSighting) -> Self {
        Self::of_names(drop.reason.as_deref(), drop.symbol.as_deref(), drop.hook)
    }

    /// The same for drops of which no more than this is known.
    pub fn of_names(reason: Option<&str>, symbol: Option<&str>, hook: Option<NetfilterHook>) -> Self {
        match reason.unwrap_or_default() {
            "IP_RPFILTER" => return Self::ReversePath,
            "IP_INNOROUTES" | "IP_INADDRERRORS" | "IP_OUTNOROUTES" | "IP_LOCAL_SOURCE"
            | "IP_INVALID_SOURCE" => {
                return Self::RouteLookUp;
            }
            "NETFILTER_DROP" => return Self::Netfilter(hook),
            "NEIGH_FAILED" | "NEIGH_CREATEFAIL" | "NEIGH_QUEUEFULL" | "NEIGH_DEAD" => return Self::Neighbour,
            "SKB_CSUM" | "TCP_CSUM" | "UDP_CSUM" | "ICMP_CSUM" | "IP_CSUM" => return Self::Checksum,
            "FULL_RING" | "CPU_BACKLOG" => return Self::Queue,
            reason if reason.starts_with("QDISC_") => return Self::Queue,
            "TC_INGRESS" | "TC_EGRESS" => return Self::Filter,
            "NO_SOCKET" | "SOCKET_FILTER" | "SOCKET_RCVBUFF" => return Self::Socket,
            reason if reason.starts_with("TCP_") => return Self::Socket,
            _ => {}
        }
        if hook.is_some() {
            return Self::Netfilter(hook);
        }
        match symbol.unwrap_or_default() {
            "ip_error" => Self::RouteLookUp,
            "ip_rcv_finish_core" | "ip_rcv_finish" | "fib_validate_source" => Self::ReversePath,
            "__netif_receive_skb_core" => Self::Filter,
            "kfree_skb_list" => Self::Queue,
            "nf_hook_slow" | "nf_hook_slow_list" => Self::Netfilter(None),
            "neigh_invalidate"
            | "arp_error_report"
            | "__neigh_event_send"
            | "neigh_timer_handler"
            | TABLE_FULL => Self::Neighbour,
            "ip_tunnel_xmit" | "iptunnel_xmit" | "ipip_tunnel_xmit" | "ip_md_tunnel_xmit" => {
                Self::TunnelEntry
            }
            "tunnel4_rcv" | "tunnel64_rcv" | "ip_tunnel_rcv" | "ipip_tunnel_rcv" | "ipip_rcv" => {
                Self::TunnelReceive
            }
            "br_dev_xmit" | "__dev_forward_skb" | "__dev_forward_skb2" | "veth_xmit" | "__dev_queue_xmit" => {
                Self::Device
            }
            "icmp_rcv"
            | "ping_rcv"
            | "raw_rcv"
            | "raw_rcv_skb"
            | "tcp_v4_rcv"
            | "tcp_v4_do_rcv"
            | "tcp_rcv_state_process"
            | "__udp4_lib_rcv"
            | "udp_queue_rcv_one_skb" => Self::Socket,
            _ => Self::Other,
        }
    }
}

/// Where a packet is freed for which no neighbour entry could be made (`net/ipv4/ip_output.c`).
const TABLE_FULL: &str = "ip_finish_output2";

/// Whether there was no room for the neighbour that the packet was to be sent to.
pub fn met_full_neighbour_table(drop: &DropSighting) -> bool {
    match drop.reason.as_deref() {
        Some("NEIGH_CREATEFAIL") => true,
        Some(reason) => reason == "NOT_SPECIFIED" && drop.symbol.as_deref() == Some(TABLE_FULL),
        None => drop.symbol.as_deref() == Some(TABLE_FULL),
    }
}

/// A drop as a person reads it.
pub fn describe(drop: &DropSighting) -> String {
    let function = drop.symbol.as_deref().unwrap_or("a function that kallsyms does not name");
    match &drop.reason {
        Some(reason) => format!("dropped in {function} ({reason})"),
        None => format!("dropped in {function} (this kernel gives no reason)"),
    }
}
