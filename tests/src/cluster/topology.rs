//! The article's cluster as facts: four nodes, two subnets with a router between them, two pods a node.

use std::net::Ipv4Addr;

use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

/// The one pool of pod addresses; IPIP, with NAT for what leaves it.
pub const POOL: &str = "10.200.0.0/16";
/// The namespace of every pod.
pub const NAMESPACE: &str = "default";
/// The machine between the two subnets. Its bridge is the switch of the first one.
pub const ROUTER: &str = "router";
/// Bytes: what an Ethernet NIC takes, less the outer IPv4 header.
pub const POD_MTU: u32 = 1480;

/// Which tool writes a node's rules; Felix finds out for itself and stays with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Legacy,
    NfTables,
}

impl Backend {
    pub fn iptables(self) -> &'static str {
        match self {
            Self::Legacy => "iptables-legacy",
            Self::NfTables => "iptables-nft",
        }
    }
}

#[derive(Debug)]
pub struct Node {
    pub name: &'static str,
    /// Last octet of the address; it tells the node's pods and variables from others'.
    pub number: u8,
    /// Of `eth0`, a /24.
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// The /26 that the node owns.
    pub block: &'static str,
    /// The /32 of `tunl0`: the first address of the block.
    pub tunnel_address: Ipv4Addr,
    pub backend: Backend,
    pub pods: [Pod; 2],
}

#[derive(Debug)]
pub struct Pod {
    pub name: &'static str,
    pub address: Ipv4Addr,
}

pub static NODES: [Node; 4] = [
    Node {
        name: "paas-186",
        number: 186,
        address: Ipv4Addr::new(172, 30, 10, 186),
        gateway: Ipv4Addr::new(172, 30, 10, 254),
        block: "10.200.232.128/26",
        tunnel_address: Ipv4Addr::new(10, 200, 232, 128),
        backend: Backend::NfTables,
        pods: [
            Pod { name: "web-186", address: Ipv4Addr::new(10, 200, 232, 130) },
            Pod { name: "db-186", address: Ipv4Addr::new(10, 200, 232, 131) },
        ],
    },
    Node {
        name: "paas-187",
        number: 187,
        address: Ipv4Addr::new(172, 30, 10, 187),
        gateway: Ipv4Addr::new(172, 30, 10, 254),
        block: "10.200.153.64/26",
        tunnel_address: Ipv4Addr::new(10, 200, 153, 64),
        backend: Backend::Legacy,
        pods: [
            Pod { name: "web-187", address: Ipv4Addr::new(10, 200, 153, 70) },
            Pod { name: "db-187", address: Ipv4Addr::new(10, 200, 153, 71) },
        ],
    },
    Node {
        name: "paas-188",
        number: 188,
        address: Ipv4Addr::new(172, 30, 10, 188),
        gateway: Ipv4Addr::new(172, 30, 10, 254),
        block: "10.200.55.192/26",
        tunnel_address: Ipv4Addr::new(10, 200, 55, 192),
        backend: Backend::NfTables,
        pods: [
            Pod { name: "web-188", address: Ipv4Addr::new(10, 200, 55, 237) },
            Pod { name: "db-188", address: Ipv4Addr::new(10, 200, 55, 239) },
        ],
    },
    Node {
        name: "allen-laptop",
        number: 95,
        address: Ipv4Addr::new(172, 30, 51, 95),
        gateway: Ipv4Addr::new(172, 30, 51, 254),
        block: "10.200.168.128/26",
        tunnel_address: Ipv4Addr::new(10, 200, 168, 128),
        backend: Backend::Legacy,
        pods: [
            Pod { name: "web-95", address: Ipv4Addr::new(10, 200, 168, 130) },
            Pod { name: "db-95", address: Ipv4Addr::new(10, 200, 168, 131) },
        ],
    },
];

impl Node {
    /// Whether a packet to the other node needs no router.
    pub fn shares_subnet_with(&self, other: &Self) -> bool {
        self.gateway == other.gateway
    }

    pub fn others(&self) -> impl Iterator<Item = &'static Self> {
        NODES.iter().filter(move |other| other.name != self.name)
    }
}

impl Pod {
    /// The host's end of the pod's veth pair, named as Calico does: `workload_endpoint_default.go`.
    pub fn interface(&self) -> String {
        interface_of(self.name)
    }

    /// What the container runtime names the pod's network namespace.
    pub fn namespace_binding(&self) -> String {
        format!("cni-{}", self.name)
    }
}

fn interface_of(pod: &str) -> String {
    let hex = HEXLOWER.encode(&Sha1::digest(format!("{NAMESPACE}.{pod}")));
    format!("cali{}", &hex[..11])
}

/// How Calico is set up: which release, and which of its ways to write routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// v3.27: BIRD writes the routes of blocks.
    #[default]
    Bird,
    /// v3.32: BIRD writes them with metric 1024, as the CNI plug-in does the pods'.
    #[serde(rename = "bird-1024")]
    Bird1024,
    /// v3.33: Felix writes them as protocol 80, with an MTU.
    Felix,
    /// v3.27, with its processes: BIRD itself writes the routes, by what its sessions tell it.
    Bgp,
    /// v3.27, where peers of the own subnet are reached without encapsulation.
    CrossSubnet,
}

impl Variant {
    /// Whether Calico's processes run, and do their work themselves.
    pub fn has_daemons(self) -> bool {
        self == Self::Bgp
    }

    /// Whether packets between pods of the two nodes are encapsulated.
    pub fn tunnels(self, from: &Node, to: &Node) -> bool {
        self != Self::CrossSubnet || !from.shares_subnet_with(to)
    }

    /// `proto` of the blocks' routes and of the own block's blackhole.
    pub fn protocol(self) -> &'static str {
        if self == Self::Felix { "80" } else { "bird" }
    }

    /// What stands behind the pods' routes.
    pub fn pod_route_suffix(self) -> &'static str {
        match self {
            Self::Bird | Self::Bgp | Self::CrossSubnet => "",
            Self::Bird1024 | Self::Felix => " metric 1024",
        }
    }

    /// What stands behind the route of a block that is reached through `tunl0`.
    pub fn tunnel_route_suffix(self) -> &'static str {
        match self {
            Self::Bird | Self::Bgp | Self::CrossSubnet => "onlink",
            Self::Bird1024 => "metric 1024 onlink",
            Self::Felix => "onlink mtu 1480",
        }
    }

    /// Whether the release is v3.30 or later, which moved the marks and the policy's texts.
    pub fn is_recent(self) -> bool {
        matches!(self, Self::Bird1024 | Self::Felix)
    }
}

/// Names that a scenario may use for what is fixed here, as `$NAME`.
pub fn variables() -> Vec<(String, String)> {
    let mut variables = vec![("POOL".to_owned(), POOL.to_owned())];
    // What `ssh` is elsewhere: a machine that runs `$LAB listen` is reached by `$LAB on MACHINE COMMAND`.
    variables.extend(std::env::current_exe().map(|lab| ("LAB".to_owned(), lab.display().to_string())));
    for node in &NODES {
        let number = node.number;
        variables.push((format!("NODE_{number}"), node.address.to_string()));
        variables.push((format!("BLOCK_{number}"), node.block.to_owned()));
        variables.push((format!("TUNNEL_{number}"), node.tunnel_address.to_string()));
        for (index, pod) in node.pods.iter().enumerate() {
            let name = pod.name.to_uppercase().replace('-', "_");
            variables.push((name.clone(), pod.address.to_string()));
            variables.push((format!("{name}_INTERFACE"), pod.interface()));
            variables.push((format!("{name}_SERVICE"), service_address(node, index).to_string()));
        }
    }
    variables
}

/// The Service with the node's pod of this index as its only endpoint.
pub fn service_address(node: &Node, index: usize) -> Ipv4Addr {
    let last = u8::try_from(index).map_or(u8::MAX, |index| index + 1);
    Ipv4Addr::new(10, 96, node.number, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_calicos() {
        // A pair that Calico's own documentation of the hash gives.
        assert_eq!(interface_of("web-0"), "cali0d7763386da");
    }
}
