//! Which node, kernel and network namespace this is, and what Calico calls the node.

use std::path::Path;

use anyhow::Context as _;
use nix::sys::utsname::uname;

use super::{files::read_text, namespace::NetworkNamespace};
use crate::sample::{Fact, NodeIdentity};

pub fn read(root: &Path) -> anyhow::Result<NodeIdentity> {
    let names = uname().context("uname failed")?;
    let boot_id = read_text(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
    Ok(NodeIdentity {
        hostname: names.nodename().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        boot_id: boot_id.trim().to_owned(),
        network_namespace: NetworkNamespace::own()?.inode,
        calico_node_name: Fact::from_result(node_name(root)),
        calico_mtu: Fact::from_result(mtu(root)),
        ..NodeIdentity::default()
    })
}

/// The release of the kernel that runs, as `uname -r` prints it.
pub fn kernel() -> anyhow::Result<String> {
    Ok(uname().context("uname failed")?.release().to_string_lossy().into_owned())
}

/// Calico's CNI plug-in and calico-node share this file (node/pkg/lifecycle/utils/utils.go).
fn node_name(root: &Path) -> anyhow::Result<String> {
    let path = root.join("var/lib/calico/nodename");
    let name = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = name.trim();
    anyhow::ensure!(!name.is_empty() && name.len() <= 253, "{} holds no node name", path.display());
    anyhow::ensure!(!name.chars().any(char::is_control), "{} holds control characters", path.display());
    Ok(name.to_owned())
}

fn mtu(root: &Path) -> anyhow::Result<u32> {
    let path = root.join("var/lib/calico/mtu");
    let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} holds no number", path.display()))
}
