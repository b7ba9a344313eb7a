//! Calico's processes, files and logs on a node.

use serde::{Deserialize, Serialize};

use super::Fact;

/// What runs Calico here, and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlane {
    /// Processes of Calico and of other pod networks; absent where the host's processes are not to be seen.
    pub processes: Fact<Vec<Process>>,
    pub felix: Fact<FelixReadiness>,
    /// Networks of `/etc/cni/net.d`, in the order in which the container runtime takes them: the first is used.
    pub cni_networks: Fact<Vec<CniNetwork>>,
    /// Errors of Calico's logs, the file with the newest last.
    pub logs: Fact<Vec<ContainerLog>>,
    /// How the host's name was when the host started, from `/etc/hostname`.
    pub configured_hostname: Fact<String>,
    /// When `/etc/hostname` was written last, RFC 3339.
    pub hostname_changed: Fact<String>,
    /// When `/var/lib/calico/nodename` was written last, RFC 3339.
    pub node_name_changed: Fact<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessRole {
    Felix,
    Bird,
    Confd,
    /// calico-kube-controllers.
    Controllers,
    /// flanneld, weaver, cilium-agent, kube-router and others that build a pod network.
    OtherPodNetwork,
    /// VPP, Calico's other dataplane.
    Vpp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub id: u32,
    pub role: ProcessRole,
    /// Base name of its executable, or of its first argument.
    pub name: String,
}

/// Felix' answer at `127.0.0.1:9099/readiness`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FelixReadiness {
    /// HTTP status: 200 ready, 503 not; `None` where it took the connection and did not answer.
    pub status: Option<u16>,
    /// The first line of the body.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniNetwork {
    pub file: String,
    pub name: String,
    /// Types of its plug-ins, the main one first.
    pub plugins: Vec<String>,
    /// `nodename` of Calico's plug-in.
    pub node_name: Option<String>,
    /// `kubernetes` or `etcdv3`.
    pub datastore: Option<String>,
}

/// One container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLog {
    /// The pod or, outside of containers, the program.
    pub of: String,
    pub path: String,
    /// Errors of the last lines, deduplicated, the newest last.
    pub errors: Vec<LogEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// As the line has it; absent for BIRD's lines outside of a container runtime's log.
    pub time: Option<String>,
    /// Without time and process number; control characters replaced.
    pub text: String,
    /// How often it was repeated in the lines that were read.
    pub count: u32,
}
