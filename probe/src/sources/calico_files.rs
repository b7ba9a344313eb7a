//! What Calico's and the node's files say of the control plane: CNI networks, logs, names and when they changed.

use std::{fs, path::Path};

use anyhow::Context as _;
use jiff::Timestamp;

use super::{cni_networks, files::read_text, logs};
use crate::sample::{ControlPlane, Fact};

/// Reads all of it; what cannot be read says why.
pub fn read(root: &Path) -> ControlPlane {
    ControlPlane {
        cni_networks: Fact::from_result(cni_networks::read(root)),
        logs: Fact::from_result(logs::read(root)),
        configured_hostname: Fact::from_result(configured_hostname(root)),
        hostname_changed: Fact::from_result(changed(&root.join("etc/hostname"))),
        node_name_changed: Fact::from_result(changed(&root.join("var/lib/calico/nodename"))),
        ..ControlPlane::default()
    }
}

fn configured_hostname(root: &Path) -> anyhow::Result<String> {
    let path = root.join("etc/hostname");
    let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let name = name.with_context(|| format!("{} holds no name", path.display()))?;
    anyhow::ensure!(!name.chars().any(char::is_control), "{} holds control characters", path.display());
    Ok(name.to_owned())
}

/// When a file was written last, RFC 3339.
fn changed(path: &Path) -> anyhow::Result<String> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Timestamp::try_from(metadata.modified()?)?.to_string())
}
