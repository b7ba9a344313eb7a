//! Evidence made into findings. Pure: a sample and an observation in, findings out.

pub mod addresses;
pub mod before_after;
pub mod beyond;
pub mod both_ends;
pub mod case;
pub mod checksum;
pub mod cleanup;
pub mod cluster;
pub mod conflict;
pub mod drop_kind;
pub mod gateway;
pub mod inbound;
pub mod kernel_route;
pub mod misdirected;
pub mod neighbour;
pub mod netfilter;
pub mod node;
pub mod opening;
pub mod other_dataplane;
pub mod path;
pub mod path_mtu;
pub mod pod;
pub mod port;
pub mod queue;
pub mod reset;
pub mod reverse_path;
pub mod route_table;
pub mod routing;
pub mod sender;
pub mod several_next_hops;
pub mod side_by_side;
pub mod trail;
pub mod tunnel;
mod vanished;
pub mod verdict;

use serde::{Deserialize, Serialize};

/// Every cause that the probe can name. The kebab-case code is a contract; codes are added, never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The target is in a pod pool, yet no pod route covers it.
    BlockRouteMissing,
    /// The block's route is `unreachable`/`prohibit`/`blackhole` though the block is another node's.
    BlockRouteUnreachable,
    /// Target in this node's own block, its /32 is gone; the block's blackhole swallows it.
    PodRouteMissing,
    /// Own block, no /32 and no interface that could be that pod's.
    NoSuchPod,
    /// The pod lives on another node than its block's owner and its /32 is not announced.
    BorrowedAddress,
    /// A foreign route (docker `br-*`, `virbr*`, a LAN) is more specific or preferred.
    RouteOverlap,
    /// One block has two next hops, or this node has it as its own too, or a block nests in another node's larger one.
    BlockOwnerConflict,
    /// The block's next hop is not a live node.
    StaleTunnelRoute,
    /// No route to the next-hop node.
    UnderlayRouteMissing,
    /// Route on `tunl0` without next hop, or node address inside a pool.
    TunnelLoop,
    /// The pool is IPIP, yet a block's route leaves by the NIC bare (all blocks, some, or only on the way back).
    EncapsulationMissing,
    /// A block's next hop is the default gateway or another host that is no Calico node.
    NextHopNotANode,
    /// No `tunl0`, or it is down, though routes or the pool need it.
    TunnelMissing,
    /// No `tunl0`, or it is down, though routes or the pool need it.
    TunnelDown,
    /// `tunl0` has no address of the node's block: host→pod fails, pod→pod works.
    TunnelAddressMissing,
    /// A pod's address is also a local address of a node.
    AddressConflict,
    /// `net.ipv4.ip_forward` or the interface's `forwarding` is 0.
    IpForwardOff,
    /// Reverse-path filter drops (strict: other way back; loose: source covered by a blackhole or nothing).
    RpFilter,
    /// The node does not answer the pod's ARP for 169.254.1.1.
    ProxyArpOff,
    /// The node has no route that covers 169.254.1.1 (no default route, or a `0.0.0.0/32` in its place), so proxy ARP stays silent; pods with a cached neighbour go on working.
    NoRouteForGatewayArp,
    /// `cali*` down, or the pod's eth0 down/no carrier.
    PodLinkDown,
    /// The /32 points to a `cali*` that is not that pod's.
    StalePodRoute,
    /// The FORWARD chain's policy drops (docker, firewalld).
    ForwardPolicyDrop,
    /// D's INPUT drops protocol 4 (peer not in `cali40all-hosts-net`, host firewall).
    IpipNotAllowed,
    /// A Calico policy chain (`cali-tw-*`, `cali-fw-*`, …) drops.
    PolicyDrop,
    /// Any other rule, DROP or REJECT (a host firewall's REJECT before Calico's ACCEPT looks like "no route to host" to the sender); name table, chain, rule.
    NetfilterDrop,
    /// The connection tracking table is full.
    ConntrackFull,
    /// One flow is dead in conntrack, a new one lives.
    ConntrackInvalid,
    /// No room for the neighbour entry.
    NeighbourTableFull,
    /// Felix has no chains for the pod's interface: dispatch ends in "Unknown interface".
    EndpointNotProgrammed,
    /// The NIC, its ring, softnet or a queueing discipline drops.
    NicDrops,
    /// Pod-to-pod traffic leaves with a node's address as its source.
    SnatOnPodTraffic,
    /// Small packets pass, large ones vanish.
    MtuBlackHole,
    /// ICMP passes, TCP/UDP dies at D with bad checksums.
    ChecksumOffload,
    /// Sent to the other node encapsulated; nothing of it arrives there.
    LostInUnderlay,
    /// Delivered to the pod, which never answered.
    PodNoAnswer,
    /// Delivered, and the pod's own stack refused it (`NO_SOCKET`, its own policy).
    PodRefused,
    /// The peer that announces the block is not Established; list the blocks that this costs.
    BgpSessionDown,
    /// Sessions Established and BIRD has the route, the kernel has not (`tunl0` down when BIRD wrote it, "Network is down", a failing filter).
    RouteNotInstalled,
    /// Socket absent or silent while `proto bird` routes stay in the kernel (BIRD runs with `persist`).
    BirdNotRunning,
    /// No felix/bird/confd process.
    CalicoNotRunning,
    /// Felix answers not ready, or nothing.
    FelixNotReady,
    /// Two machines answer for one node address.
    NodeAddressDuplicate,
    /// `/var/lib/calico/nodename`, the hostname and the configured name differ; upper case or illegal characters.
    NodeNameMismatch,
    /// The hostname changed lately, or two nodes carry one name.
    NodeNameChanged,
    /// Calico's node address is on no interface, or on a bridge of docker/libvirt.
    NodeAddressWrong,
    /// Another CNI is active (flannel.1, cni0, weave, FLANNEL-*/WEAVE-* chains, a second conflist).
    SecondCni,
    /// The uplink is not what the autodetection would take.
    UnexpectedUplink,
    /// Recent errors in calico-node's log; the last few, deduplicated.
    CalicoLogErrors,
    /// Bridge without carrier or ports holding routes.
    StaleBridge,
    /// `cali*` whose peer's namespace holds no process and which no CNI result names; without that proof: `pod-route-missing` or this, both readings and what settles it.
    StaleInterface,
    /// Blackhole for a block that nobody owns.
    StaleBlackhole,
    /// Something keeps deleting/adding pod routes; name the process or protocol if known.
    RouteFlapping,
    /// Rules in both iptables-legacy and nft.
    IptablesBackendMix,
    /// Calico's eBPF or VPP dataplane, WireGuard, or a VXLAN pool is in use, so this node's path is another one.
    DataplaneUnsupported,
}

impl Cause {
    /// The stable code, as the documents carry it.
    pub fn code(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}
