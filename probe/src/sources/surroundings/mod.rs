//! Whose devices are whose on this node, since when they exist, and what the node talks to: asked only where something
//! is to be taken away.

mod container_engines;
mod lifelines;
mod network_managers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::SystemTime,
};

use super::{GatherOptions, files::read_text};
use crate::{
    model::is_pod_link,
    sample::{Fact, Link, Sample, Surroundings},
};

/// Where devices are configured that somebody means to keep.
const CONFIGURATIONS: [&str; 14] = [
    "etc/network",
    "etc/network/interfaces.d",
    "etc/netplan",
    "run/netplan",
    "etc/sysconfig/network-scripts",
    "etc/sysconfig/network",
    "etc/systemd/network",
    "run/systemd/network",
    "etc/NetworkManager/system-connections",
    "etc/libvirt/qemu/networks",
    "etc/cni/net.d",
    "etc/containers/networks",
    "var/lib/containers/storage/networks",
    "etc/docker",
];
/// More than a node has.
const MOST_FILES: usize = 2000;
/// Programs that make devices, as the kernel names their processes (`TASK_COMM_LEN`).
const OWNERS: [&str; 6] =
    ["dockerd", "podman", "NetworkManager", "systemd-network", "libvirtd", "virtnetworkd"];

/// Which of those run, or why that does not show.
type Running = Result<BTreeSet<String>, String>;

/// Adds what a clean-up must know. It takes a few seconds where an owner does not answer.
pub async fn gather(options: &GatherOptions, sample: &mut Sample) {
    let root = options.root.as_path();
    let bridges: Vec<&Link> =
        sample.links.iter().filter(|link| link.kind.as_deref() == Some("bridge")).collect();
    let running = match &sample.control_plane.processes {
        Fact::Known(_) => Ok(running(root, sample.node.network_namespace)),
        Fact::Absent(why) => Err(why.clone()),
    };
    let mut owners = container_engines::ask(root, &running, &bridges).await;
    owners.extend(network_managers::ask(root, &running, &bridges));
    sample.surroundings = Fact::Known(Surroundings {
        owners,
        configured: configured(root, &bridges),
        ages: sample
            .links
            .iter()
            .filter(|link| is_pod_link(link))
            .filter_map(|link| age(root, link))
            .collect(),
        lifelines: Fact::from_result(lifelines::read(root)),
    });
}

/// Those of this network namespace; one that hides its namespace may be.
fn running(root: &Path, network_namespace: u64) -> BTreeSet<String> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let process = entry.path();
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            let name = read_text(&process.join("comm")).ok()?.trim().to_owned();
            let is_here = || {
                let namespace = process.join("ns/net").metadata();
                namespace.map_or(true, |namespace| namespace.ino() == network_namespace)
            };
            (OWNERS.contains(&name.as_str()) && is_here()).then_some(name)
        })
        .collect()
}

/// The first configuration file that names each bridge.
fn configured(root: &Path, bridges: &[&Link]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if bridges.is_empty() {
        return found;
    }
    let folders = CONFIGURATIONS.iter().map(|folder| root.join(folder));
    let entries = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_file()).take(MOST_FILES) {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = read_text(&path).unwrap_or_default();
        for bridge in bridges {
            if names(&text, &bridge.name) || names(&file_name, &bridge.name) {
                let shown = path.strip_prefix(root).unwrap_or(&path);
                found.entry(bridge.name.clone()).or_insert_with(|| format!("/{}", shown.display()));
            }
        }
    }
    found
}

/// Whether a text has a name as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let of_a_name = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(name).any(|(place, _)| {
        let before = text[..place].chars().next_back();
        let after = text[place + name.len()..].chars().next();
        !name.is_empty() && !before.is_some_and(of_a_name) && !after.is_some_and(of_a_name)
    })
}

/// For how long a device exists at least. The kernel does not tell when it made one. It makes the inode of the device's
/// folder when somebody first looks there, which is when Felix or udev set the device up, and a new one for a new device
/// (`kernfs_init_inode`, `proc_sys_make_inode`).
fn age(root: &Path, link: &Link) -> Option<(u32, u64)> {
    let folder = root.join("sys/class/net").join(&link.name);
    let index: u32 = read_text(&folder.join("ifindex")).ok()?.trim().parse().ok()?;
    let settings = root.join("proc/sys/net/ipv4/conf").join(&link.name);
    let since = [folder, settings].iter().filter_map(|path| path.metadata().ok()?.modified().ok()).min()?;
    let age = SystemTime::now().duration_since(since).ok()?.as_secs();
    (index == link.index).then_some((index, age))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(name: &str) -> Link {
        Link { index: 7, name: name.to_owned(), kind: Some("bridge".to_owned()), ..Link::default() }
    }

    #[test]
    fn a_file_names_a_device_as_a_word() {
        assert!(names("iface br0 inet static", "br0"));
        assert!(names("\"bridge\":\"br0\"", "br0"));
        assert!(!names("iface br01 inet", "br0"));
        assert!(!names("vbr0", "br0"));
        assert!(!names("", "br0"));
    }

    #[test]
    fn a_configured_bridge_is_told_with_its_file() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/network/interfaces.d");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lab"), "auto br0\n").unwrap();
        let (mine, other) = (bridge("br0"), bridge("br1"));
        let found = configured(root.path(), &[&mine, &other]);
        assert_eq!(found.get("br0").map(String::as_str), Some("/etc/network/interfaces.d/lab"));
        assert!(!found.contains_key("br1"));
    }

    #[test]
    fn a_device_is_as_old_as_its_folder_and_another_ones_folder_tells_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/net/cali1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ifindex"), "7\n").unwrap();
        let hour_ago = SystemTime::now() - std::time::Duration::from_hours(1);
        fs::File::open(&folder).unwrap().set_modified(hour_ago).unwrap();
        let (_, seconds) = age(root.path(), &bridge("cali1")).unwrap();
        assert!((3600..3700).contains(&seconds));
        let made_anew = Link { index: 8, ..bridge("cali1") };
        assert_eq!(age(root.path(), &made_anew), None);
    }
}
