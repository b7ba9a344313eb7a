//! The processes that build a pod network on this node: those in the host's network namespace, as calico-node and
//! its like are.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::files::read_text;
use crate::sample::{Process, ProcessRole};

/// `PROC_PID_INIT_INO`: the inode of the initial PID namespace (`include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// What only a node runs: where one of these is seen, the node's processes are.
const OF_A_NODE: [&str; 5] = ["kubelet", "containerd", "dockerd", "crio", "k3s"];
const OTHER_POD_NETWORKS: [&str; 8] = [
    "flanneld",
    "weaver",
    "cilium-agent",
    "kube-router",
    "antrea-agent",
    "ovnkube",
    "kube-ovn-daemon",
    "romana_agent",
];

/// Reads them; the error says why the node's processes are not to be seen.
pub fn read(root: &Path, network_namespace: u64) -> anyhow::Result<Vec<Process>> {
    let folder = root.join("proc");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let own = folder.join("self/ns/pid").metadata().map(|metadata| metadata.ino());
    let mut sees_node = own.is_ok_and(|inode| inode == INITIAL_PID_NAMESPACE);
    let mut hidden = 0usize;
    let mut processes = Vec::new();
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(arguments) = arguments(&entry.path()) else { continue };
        sees_node |= OF_A_NODE.contains(&base_name(&arguments[0]));
        let Some(role) = role(&arguments) else { continue };
        match is_in(&entry.path(), network_namespace) {
            Some(true) => {
                processes.push(Process { id, role, name: base_name(&arguments[0]).to_owned() });
            }
            Some(false) => {}
            None => hidden += 1,
        }
    }
    if processes.is_empty() && hidden > 0 {
        bail!("not permitted to see in whose network namespace {hidden} processes are (CAP_SYS_PTRACE)");
    }
    if processes.is_empty() && !sees_node {
        bail!("this process does not see the node's processes (hostPID)");
    }
    processes.sort_by_key(|process| (process.role, process.id));
    Ok(processes)
}

/// The command line, if it has any; kernel threads have none.
fn arguments(process: &Path) -> Option<Vec<String>> {
    let line = read_text(&process.join("cmdline")).ok()?;
    let arguments: Vec<String> = line.split('\0').take(16).map(str::to_owned).collect();
    arguments.first().is_some_and(|first| !first.is_empty()).then_some(arguments)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// calico-node's parts are told by their arguments: `calico-node -felix` until v3.32, `calico component felix` since.
fn role(arguments: &[String]) -> Option<ProcessRole> {
    let name = base_name(arguments.first()?);
    let has =
        |wanted: &str| arguments.iter().skip(1).any(|argument| argument.trim_start_matches('-') == wanted);
    match name {
        "bird" => Some(ProcessRole::Bird),
        "confd" => Some(ProcessRole::Confd),
        "calico-felix" => Some(ProcessRole::Felix),
        "kube-controllers" => Some(ProcessRole::Controllers),
        "vpp" => Some(ProcessRole::Vpp),
        "calico-node" | "calico" if has("felix") => Some(ProcessRole::Felix),
        "calico-node" | "calico" if has("confd") => Some(ProcessRole::Confd),
        _ if OTHER_POD_NETWORKS.contains(&name) => Some(ProcessRole::OtherPodNetwork),
        _ => None,
    }
}

/// Whether a process is in a network namespace; `None` where that cannot be seen.
fn is_in(process: &Path, network_namespace: u64) -> Option<bool> {
    let link: PathBuf = process.join("ns/net");
    link.metadata().ok().map(|metadata| metadata.ino() == network_namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_calico_are_told_by_their_arguments() {
        for (line, expected) in [
            ("calico-node -felix", Some(ProcessRole::Felix)),
            ("/usr/bin/calico component felix", Some(ProcessRole::Felix)),
            ("calico-node -confd", Some(ProcessRole::Confd)),
            ("calico-node -monitor-addresses", None),
            (
                "bird -R -s /var/run/calico/bird.ctl -d -c /etc/calico/confd/config/bird.cfg",
                Some(ProcessRole::Bird),
            ),
            ("bird6 -R -s /var/run/calico/bird6.ctl", None),
            ("/opt/bin/flanneld --ip-masq", Some(ProcessRole::OtherPodNetwork)),
            ("vim bird", None),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(role(&arguments), expected, "{line}");
        }
    }
}
