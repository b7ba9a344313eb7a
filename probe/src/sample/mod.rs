//! Raw facts of one node at one moment. Nothing here is derived; everything is serialisable, and a saved
//! sample is judged exactly as a live one is.
//!
//! Addresses are `Ipv4Addr`; marks, flags and indices are in host byte order; counters are cumulative since
//! the kernel object was made.

mod calico;
mod datastore;
mod host;
mod netfilter;
mod routing_daemon;
mod surroundings;
mod watched;

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use calico::{CniNetwork, ContainerLog, ControlPlane, FelixReadiness, LogEntry, Process, ProcessRole};
pub use datastore::{
    BlockAffinity, Datastore, DatastoreNode, DatastorePod, DatastorePool, IpipMode, PodOwner,
};
pub use host::{ConntrackTable, HostTables, NeighbourTable, SoftnetCpu};
pub use netfilter::{
    BaseChain, Comparison, ConnectionState, DeviceMatch, End, Field, KeyPart, Member, Membership,
    NetfilterHook, NetfilterRule, RuleChain, RuleFamily, RulePart, RuleSetBackend, RuleSetMembers, RuleSets,
    RuleTable, SetName, Side, Verdict,
};
pub use routing_daemon::{BgpSession, Bird, BirdRoute, PeerKind};
pub use surroundings::{Lifeline, OwnedDevice, Owner, OwnerKind, Surroundings};
pub use watched::{Echo, Ledger};

/// The version of this format. Fields may be added without a new version.
pub const FORMAT_VERSION: u32 = 1;

/// A fact that may be out of reach; then the reason is kept, and nothing stands in for the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    Known(T),
    /// Why it could not be read, as a person would say it.
    Absent(String),
}

impl<T> Fact<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent(_) => None,
        }
    }

    /// Why the fact is absent; `None` where it is known.
    pub fn absent(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Absent(why) => Some(why),
        }
    }

    /// The value from elsewhere where this fact is absent; its reason stays where that has none either.
    #[must_use]
    pub fn or_else(self, other: impl FnOnce() -> Option<T>) -> Self {
        match self {
            Self::Absent(why) => other().map_or(Self::Absent(why), Self::Known),
            known @ Self::Known(_) => known,
        }
    }

    /// Keeps the error's whole chain as the reason.
    pub fn from_result(result: anyhow::Result<T>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(error) => Self::Absent(format!("{error:#}")),
        }
    }
}

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self::Absent("not read".to_owned())
    }
}

/// Everything that one look at a node gathers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub format_version: u32,
    /// RFC 3339, UTC.
    pub time: String,
    pub node: NodeIdentity,
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    /// IPv4 routes of all tables.
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
    pub next_hops: Vec<NextHop>,
    pub neighbours: Vec<Neighbour>,
    pub sysctls: Sysctls,
    /// Pool CIDRs and node addresses, as Felix keeps them in sets.
    #[serde(default)]
    pub sets: FelixSets,
    /// Rules of netfilter, where a command needs them.
    #[serde(default)]
    pub rule_sets: Fact<RuleSets>,
    /// Results that the container runtime cached for the pods that it set up.
    #[serde(default)]
    pub cni_results: Fact<Vec<CniResult>>,
    /// What pods' own ends of their veths look like, for those that a diagnosis had to look at.
    #[serde(default)]
    pub pod_interfaces: Vec<PodInterface>,
    /// Kernel counters of this network namespace by name, from `/proc/net/snmp` and `/proc/net/netstat`,
    /// such as `IpExt.InNoRoutes`.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Pools that the caller named; they win over every other source.
    #[serde(default)]
    pub given_pools: Vec<Ipv4Net>,
    /// Pools of the filters in BIRD's configuration, where Felix' sets do not tell.
    #[serde(default)]
    pub bird_pools: Fact<Vec<Ipv4Net>>,
    /// BIRD, as its control socket or `calicoctl node status` shows it.
    #[serde(default)]
    pub bird: Fact<Bird>,
    /// Calico's processes, files and logs.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// How full the kernel's tables are.
    #[serde(default)]
    pub tables: HostTables,
    /// Queueing disciplines of the devices that have one.
    #[serde(default)]
    pub queues: Fact<Vec<Queue>>,
    /// Routes that changed while somebody watched.
    #[serde(default)]
    pub route_watch: Fact<RouteWatch>,
    /// Who asked by ARP while somebody watched.
    #[serde(default)]
    pub arp_watch: Fact<ArpWatch>,
    /// What the caller says that the datastore holds (`--facts`).
    #[serde(default)]
    pub datastore: Fact<Datastore>,
    /// Whose devices are whose, and what must not be cut off; where something is to be taken away.
    #[serde(default)]
    pub surroundings: Fact<Surroundings>,
    /// What a running probe counted until then.
    #[serde(default)]
    pub ledger: Fact<Ledger>,
    /// Who answered, of the pods and nodes that were asked.
    #[serde(default)]
    pub echoes: Fact<Vec<Echo>>,
    /// Parts that this sample does not hold, and why: those lists are empty because nobody looked, not because
    /// nothing is there. A look at a live node holds every part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<Part, String>,
    /// Lines of pasted outputs that were recognised and could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableLine>,
}

impl Sample {
    /// Whether this sample holds a part as a whole.
    pub fn holds(&self, part: Part) -> bool {
        !self.missing.contains_key(&part)
    }
}

/// A line that shows something, but not what: mostly because a part of it was masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableLine {
    /// The command that prints such lines.
    pub output: String,
    pub text: String,
    pub why: String,
}

/// A part of a sample that a saved or pasted one may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Every device; without it `links` holds those alone that other parts name.
    Links,
    /// Whether devices are up, have a carrier, and their MTU.
    LinkStates,
    /// What kinds devices are, and the indices of their peers.
    LinkKinds,
    /// Packet and error counters of devices.
    LinkStatistics,
    Addresses,
    /// The main table as a whole; without it `routes` holds some of its routes, or none.
    Routes,
    /// Routes of all other tables.
    OtherTables,
    /// The protocols that wrote the routes, and their flags: `route -n` does not print them.
    RouteProtocols,
    Rules,
    NextHops,
    Neighbours,
    Sysctls,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The kernel's host name.
    pub hostname: String,
    /// The folder, file or prompt that pasted outputs are from; several looks at one place have the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pasted_from: String,
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Inode of the network namespace that was read.
    pub network_namespace: u64,
    /// `/var/lib/calico/nodename`.
    #[serde(default)]
    pub calico_node_name: Fact<String>,
    /// `/var/lib/calico/mtu`: the MTU that Calico gives to pods.
    #[serde(default)]
    pub calico_mtu: Fact<u32>,
}

/// A network device, from `RTM_GETLINK`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `IFLA_INFO_KIND`: `veth`, `bridge`, `ipip`, `vlan`, `bond` …; `None` for physical devices and `lo`.
    pub kind: Option<String>,
    /// `ARPHRD_*` of `linux/if_arp.h`: 1 Ethernet, 768 IPIP tunnel, 772 loopback.
    pub link_layer_type: u16,
    /// `IFF_UP`: set up by the administrator.
    pub up: bool,
    /// `IFF_LOWER_UP`: the carrier is there.
    pub carrier: bool,
    /// `IFF_RUNNING`.
    pub running: bool,
    /// Bytes.
    pub mtu: u32,
    /// Link-layer address, as `ee:ee:ee:ee:ee:ee`; `None` where the device has none.
    pub hardware_address: Option<String>,
    /// `IFLA_MASTER`: the bridge or bond that this device is a port of.
    pub master: Option<u32>,
    /// `IFLA_LINK`: index of the lower device or of a veth's peer, in the namespace that `peer_namespace` names.
    pub lower: Option<u32>,
    /// `IFLA_LINK_NETNSID`: identifies the peer's network namespace within this one.
    pub peer_namespace: Option<i32>,
    pub statistics: LinkStatistics,
}

/// `rtnl_link_stats64`; packets are socket buffers, not segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatistics {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    /// On `tunl0`: the packets whose outer destination is the tunnel itself (`net/ipv4/ip_tunnel.c`).
    pub collisions: u64,
    pub rx_missed_errors: u64,
    /// On `tunl0`: the packets whose outer destination had no route (`net/ipv4/ip_tunnel.c`).
    pub tx_carrier_errors: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub link: u32,
    /// `IFA_LOCAL`.
    pub address: Ipv4Addr,
    pub prefix_length: u8,
    /// `RT_SCOPE_*` as the kernel numbers it: 0 universe, 253 link, 254 host.
    pub scope: u8,
}

/// `RTN_*` of `linux/rtnetlink.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    #[default]
    Unicast,
    Local,
    Broadcast,
    Anycast,
    Multicast,
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
    Nat,
    Other(u8),
}

/// One IPv4 route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: Ipv4Net,
    pub kind: RouteKind,
    /// 254 main, 255 local, 253 default.
    pub table: u32,
    /// `RTPROT_*`: 2 kernel, 3 boot, 4 static, 12 BIRD, 80 Felix' default for its own routes.
    pub protocol: u8,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// `RTA_PRIORITY`; 0 is the best.
    pub metric: u32,
    /// Type of service that the route is limited to; 0 for every one.
    pub tos: u8,
    /// `RTA_PREFSRC`.
    pub preferred_source: Option<Ipv4Addr>,
    /// `RTAX_MTU`, bytes.
    pub mtu: Option<u32>,
    /// `RTA_NH_ID`: a next-hop object carries the hops.
    pub next_hop_id: Option<u32>,
    /// One for an ordinary route, several for multipath, none for a blackhole.
    pub hops: Vec<Hop>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    pub gateway: Option<Ipv4Addr>,
    /// The gateway's text where whoever pasted the route masked it, such as `x.x.0.1`; equal texts are one gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_gateway: Option<String>,
    /// `RTA_OIF`.
    pub link: Option<u32>,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// `RTNH_F_DEAD`: the device is down.
    pub dead: bool,
    /// `RTNH_F_LINKDOWN`: the device has no carrier.
    pub link_down: bool,
    /// Weight among the hops of a multipath route; 1 is the least.
    pub weight: u16,
}

impl Hop {
    /// Whether packets go by way of another machine, whose address may be masked.
    pub fn has_gateway(&self) -> bool {
        self.gateway.is_some() || self.masked_gateway.is_some()
    }
}

/// A queueing discipline (`RTM_NEWQDISC`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The device's index.
    pub link: u32,
    /// Major and minor number, 16 bits each.
    pub handle: u32,
    /// Such as `fq_codel`, `mq` or `clsact`.
    pub kind: String,
    /// Packets that left it; wraps around (`struct gnet_stats_basic`).
    pub passed: u32,
    /// Packets that it dropped; wraps around (`struct gnet_stats_queue`).
    pub dropped: u32,
}

/// What a watch over the routes saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteWatch {
    /// How long it took.
    pub milliseconds: u64,
    /// In their order.
    pub changes: Vec<RouteChange>,
}

/// A route that was added, or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChange {
    pub destination: Ipv4Net,
    /// `RTPROT_*` of the route itself, whoever changed it.
    pub protocol: u8,
    pub removed: bool,
}

/// What a watch over ARP heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArpWatch {
    /// How long it took.
    pub milliseconds: u64,
    /// In their order; a claim that is repeated before another one for the same address is there once.
    pub claims: Vec<ArpClaim>,
}

/// The sender of an ARP request, which has the address that it asks from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArpClaim {
    /// The device on which it was heard.
    pub link: u32,
    pub address: Ipv4Addr,
    /// As `00:50:56:81:47:bb`.
    pub hardware_address: String,
}

/// What a rule does with a packet that it matches, `FR_ACT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    LookUp(u32),
    /// Continues at the rule with this priority.
    Goto(u32),
    Nop,
    Blackhole,
    Unreachable,
    Prohibit,
    Other(u8),
}

/// One routing rule, in the kernel's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub priority: u32,
    pub source: Option<Ipv4Net>,
    pub destination: Option<Ipv4Net>,
    pub input_interface: Option<String>,
    pub output_interface: Option<String>,
    pub mark: u32,
    pub mark_mask: u32,
    pub tos: u8,
    /// `FIB_RULE_INVERT`.
    pub invert: bool,
    /// `FRA_SUPPRESS_PREFIXLEN`: routes with at most this prefix length do not count.
    pub suppress_prefix_length: Option<u32>,
    /// What this program does not evaluate, by the attribute's name; a rule with any of these makes a
    /// look-up undecided.
    pub unsupported: Vec<String>,
    pub action: RuleAction,
}

impl Rule {
    /// One that looks a table up for every packet, as the kernel's own do (`fib_default_rules_init`).
    #[must_use]
    pub fn for_all(priority: u32, table: u32) -> Self {
        Self {
            priority,
            source: None,
            destination: None,
            input_interface: None,
            output_interface: None,
            mark: 0,
            mark_mask: 0,
            tos: 0,
            invert: false,
            suppress_prefix_length: None,
            unsupported: Vec::new(),
            action: RuleAction::LookUp(table),
        }
    }
}

/// A next-hop object (`ip nexthop`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    pub id: u32,
    pub blackhole: bool,
    pub hop: Hop,
    /// Members of a group, by id and weight; empty for a single next hop.
    pub group: Vec<(u32, u16)>,
}

/// `NUD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourState {
    None,
    Incomplete,
    Reachable,
    Stale,
    Delay,
    Probe,
    Failed,
    NoArp,
    Permanent,
    Other(u16),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    pub link: u32,
    pub address: Ipv4Addr,
    pub state: NeighbourState,
    pub hardware_address: Option<String>,
}

/// The settings of `net.ipv4.conf` that decide over forwarding, as `/proc/sys` holds them; `None` where the
/// file cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctls {
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// `net.ipv4.fib_multipath_hash_policy`.
    pub fib_multipath_hash_policy: Option<u8>,
    /// By interface name; `all` and `default` among them.
    pub interfaces: BTreeMap<String, InterfaceSysctls>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSysctls {
    pub forwarding: Option<bool>,
    /// 0 off, 1 strict, 2 loose; the effective value is the larger of this and `all`'s.
    pub rp_filter: Option<u8>,
    pub proxy_arp: Option<bool>,
}

/// What Felix writes into ipsets (or nft sets) for every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FelixSets {
    /// `cali40all-ipam-pools`, newer `cali40network-ip-pools`: every pool.
    pub pools: Fact<Vec<Ipv4Net>>,
    /// `cali40masq-ipam-pools`: pools whose traffic to the outside is masqueraded.
    pub masquerade_pools: Fact<Vec<Ipv4Net>>,
    /// `cali40all-hosts-net`: every node's address, this one's included; exists only with IPIP.
    pub hosts: Fact<Vec<Ipv4Net>>,
}

/// One cached result of a CNI plug-in (libcni), for the pod network's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniResult {
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub container_id: String,
    /// The host's end, a `cali*`.
    pub host_interface: Option<String>,
    pub addresses: Vec<Ipv4Addr>,
    /// Path of the network namespace, where the runtime wrote it.
    pub network_namespace: Option<String>,
}

/// A pod's end of its veth, as the pod's network namespace shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInterface {
    /// Index of the host's end.
    pub link: u32,
    /// Name of the pod's end, normally `eth0`.
    pub name: String,
    pub up: bool,
    pub carrier: bool,
    pub addresses: Vec<Ipv4Addr>,
    /// Whether a process is in the pod's network namespace; `None` where not every process could be looked at.
    #[serde(default)]
    pub inhabited: Option<bool>,
    /// `InCsumErrors` of TCP and UDP in the pod's network namespace; `None` where they cannot be read.
    #[serde(default)]
    pub checksum_errors: Option<u64>,
}
