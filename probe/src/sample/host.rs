//! How full the kernel's tables are.

use serde::{Deserialize, Serialize};

use super::Fact;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTables {
    pub conntrack: Fact<ConntrackTable>,
    pub neighbours: Fact<NeighbourTable>,
    /// `/proc/net/softnet_stat`, a line each CPU.
    pub softnet: Fact<Vec<SoftnetCpu>>,
}

/// `net.netfilter.nf_conntrack_*` and the sums of `/proc/net/stat/nf_conntrack`, as far as the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackTable {
    pub count: u64,
    pub max: u64,
    /// Packets dropped because no entry could be made.
    pub drop: Option<u64>,
    /// Entries given up early to make room.
    pub early_drop: Option<u64>,
    pub insert_failed: Option<u64>,
}

/// The IPv4 neighbour table: its limits are those of the initial network namespace, for all namespaces together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourTable {
    pub entries: u64,
    /// `net.ipv4.neigh.default.gc_thresh3`; absent outside of the initial network namespace.
    pub limit: Option<u64>,
    /// How often no entry could be made for want of room.
    pub table_fulls: Option<u64>,
}

/// One CPU's backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftnetCpu {
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    pub time_squeeze: u64,
}
