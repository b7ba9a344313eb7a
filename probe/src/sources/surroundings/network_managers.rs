//! `NetworkManager`, systemd-networkd and libvirt, by the state that they keep in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{super::files::read_text, Running};
use crate::sample::{Fact, Link, OwnedDevice, Owner, OwnerKind};

/// More networks than anybody has.
const MOST_NETWORKS: usize = 1000;

/// Those that are on this node.
pub fn ask(root: &Path, running: &Running, bridges: &[&Link]) -> Vec<Owner> {
    let owner = |kind, devices| Owner { kind, devices: Fact::from_result(devices) };
    let mut owners = Vec::new();
    let devices = root.join("run/NetworkManager/devices");
    if is_here(running, &["NetworkManager"], &devices) {
        owners.push(owner(OwnerKind::NetworkManager, managed(&devices, bridges, is_managed)));
    }
    let links = root.join("run/systemd/netif/links");
    if is_here(running, &["systemd-network"], &links) {
        owners.push(owner(OwnerKind::Networkd, managed(&links, bridges, is_administered)));
    }
    let libvirt = libvirt(root);
    let runs = running
        .as_ref()
        .is_ok_and(|names| ["libvirtd", "virtnetworkd"].iter().any(|name| names.contains(*name)));
    if runs || libvirt.as_ref().is_ok_and(|networks| !networks.is_empty()) {
        owners.push(owner(OwnerKind::Libvirt, libvirt));
    }
    owners
}

/// Whether it runs; where that does not show, whether it has left its state.
fn is_here(running: &Running, names: &[&str], state: &Path) -> bool {
    match running {
        Ok(running) => names.iter().any(|name| running.contains(*name)),
        Err(_) => state.is_dir(),
    }
}

/// The bridges whose own file of state says that they are managed.
fn managed(
    folder: &Path,
    bridges: &[&Link],
    is_managed: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<OwnedDevice>> {
    fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut devices = Vec::new();
    for bridge in bridges {
        let path = folder.join(bridge.index.to_string());
        if !fs::exists(&path)? {
            continue;
        }
        let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if is_managed(&text) {
            devices.push(OwnedDevice { device: bridge.name.clone(), name: bridge.name.clone() });
        }
    }
    Ok(devices)
}

/// `nm-config.c`, `nm_config_device_state_write`.
fn is_managed(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "managed=true")
}

/// `networkd-state-file.c`: every state but `unmanaged` is its own.
fn is_administered(text: &str) -> bool {
    let mut states = text.lines().filter_map(|line| line.strip_prefix("ADMIN_STATE="));
    states.any(|state| state != "unmanaged")
}

/// The networks that run, by the bridges that their state names.
fn libvirt(root: &Path) -> anyhow::Result<Vec<OwnedDevice>> {
    let folders = ["run/libvirt/network", "var/lib/libvirt/network"].map(|folder| root.join(folder));
    let found: Vec<&PathBuf> = folders.iter().filter(|folder| folder.is_dir()).collect();
    anyhow::ensure!(!found.is_empty(), "no state of its networks is under {}", folders[0].display());
    let mut devices = Vec::new();
    for folder in found {
        for entry in fs::read_dir(folder)?.flatten().take(MOST_NETWORKS) {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "xml") {
                devices.extend(network(&read_text(&path)?));
            }
        }
    }
    Ok(devices)
}

/// What one network's state says of its bridge and its name.
fn network(text: &str) -> Option<OwnedDevice> {
    let bridge = text.split_once("<bridge ")?.1.split_once('>')?.0;
    let value = bridge.split_once("name=")?.1;
    let quote = value.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let device = value[1..].split_once(quote)?.0.to_owned();
    let name = text.split_once("<name>").and_then(|(_, rest)| rest.split_once("</name>"));
    let name = name.map_or_else(|| device.clone(), |(name, _)| name.to_owned());
    Some(OwnedDevice { device, name })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn bridge() -> Link {
        Link { index: 9, name: "br0".to_owned(), ..Link::default() }
    }

    fn owned(owners: &[Owner]) -> Vec<(OwnerKind, Option<usize>)> {
        owners.iter().map(|owner| (owner.kind, owner.devices.known().map(Vec::len))).collect()
    }

    #[test]
    fn each_tells_its_own_by_its_state() {
        let root = tempfile::tempdir().unwrap();
        let names = ["NetworkManager", "systemd-network", "libvirtd"].map(str::to_owned);
        let running: Running = Ok(BTreeSet::from(names));
        let bridge = bridge();
        let ask = || owned(&ask(root.path(), &running, &[&bridge]));
        let kinds = [OwnerKind::NetworkManager, OwnerKind::Networkd, OwnerKind::Libvirt];
        assert_eq!(ask(), kinds.map(|kind| (kind, None)), "who runs and keeps no state cannot be asked");
        write(root.path(), "run/NetworkManager/devices/9", "[device]\nmanaged=false\n");
        write(root.path(), "run/systemd/netif/links/9", "ADMIN_STATE=unmanaged\nOPER_STATE=off\n");
        write(root.path(), "run/libvirt/network/notes", "");
        assert_eq!(ask(), kinds.map(|kind| (kind, Some(0))));
        write(root.path(), "run/NetworkManager/devices/9", "[device]\nmanaged=true\n");
        write(root.path(), "run/systemd/netif/links/9", "ADMIN_STATE=configured\n");
        let xml = "<networkstatus><network><name>default</name><bridge name='br0' stp='on'/></network>";
        write(root.path(), "run/libvirt/network/default.xml", xml);
        assert_eq!(ask(), kinds.map(|kind| (kind, Some(1))));
    }

    #[test]
    fn who_does_not_run_owns_nothing() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "run/NetworkManager/devices/9", "[device]\nmanaged=true\n");
        assert!(ask(root.path(), &Ok(BTreeSet::new()), &[&bridge()]).is_empty());
        let unseen: Running = Err("hostPID".to_owned());
        assert_eq!(owned(&ask(root.path(), &unseen, &[&bridge()])), [(OwnerKind::NetworkManager, Some(1))]);
    }

    proptest! {
        #[test]
        fn any_state_is_read_without_a_panic(text in "\\PC{0,60}", rest in "\\PC{0,60}") {
            let _ = (network(&text), network(&format!("<bridge name={rest}<name>{text}")), is_managed(&text));
        }
    }
}
