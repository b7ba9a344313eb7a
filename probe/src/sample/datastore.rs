//! What only Calico's datastore knows, as `kubectl get nodes,pods,ippools,blockaffinities -o json` prints it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datastore {
    pub nodes: Vec<DatastoreNode>,
    pub pods: Vec<DatastorePod>,
    pub pools: Vec<DatastorePool>,
    pub affinities: Vec<BlockAffinity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreNode {
    pub name: String,
    /// `projectcalico.org/IPv4Address`, with the mask that decides what CrossSubnet holds for the same subnet;
    /// absent for nodes without Calico.
    pub address: Option<Ipv4Net>,
    /// `projectcalico.org/IPv4IPIPTunnelAddr`.
    pub tunnel_address: Option<Ipv4Addr>,
    /// The `Ready` condition.
    pub ready: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastorePod {
    pub namespace: String,
    pub name: String,
    pub node: Option<String>,
    pub addresses: Vec<Ipv4Addr>,
    /// Its addresses are the node's own.
    pub host_network: bool,
    /// `status.phase`.
    pub phase: String,
    /// The container runtime's condition of each container, such as `CrashLoopBackOff`, where it waits.
    pub waiting: Vec<String>,
    /// Who makes it again once it is deleted.
    #[serde(default)]
    pub owner: PodOwner,
}

/// What `metadata.ownerReferences` says of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodOwner {
    /// A sample of an earlier release does not hold it.
    #[default]
    NotRead,
    /// A bare pod: deleted, it is gone for good.
    Nobody,
    /// `Kind/name`, such as `ReplicaSet/web-5c98db65d4`.
    Controller(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpipMode {
    Always,
    CrossSubnet,
    #[default]
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastorePool {
    pub name: String,
    pub cidr: Ipv4Net,
    pub ipip: IpipMode,
    /// `vxlanMode` is not `Never`.
    pub vxlan: bool,
    pub nat_outgoing: bool,
    pub disabled: bool,
    pub block_length: u8,
}

/// Which node has a block (`BlockAffinity`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockAffinity {
    pub block: Ipv4Net,
    pub node: String,
    /// `confirmed`, `pending`, `pendingDeletion`.
    pub state: String,
}
