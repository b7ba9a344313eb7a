//! What this process may do: capabilities, limits, and what is tried without a trace.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use caps::CapSet;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::{
    files::read_text,
    namespace::NetworkNamespace,
    packet_socket,
    pod_interfaces::{self, PodInterfaces},
};
use crate::{
    readiness::Privileges,
    sample::{Fact, Link},
};

/// Tries them; the pods are those behind the given devices.
pub fn read<'a>(root: &Path, pods: impl IntoIterator<Item = &'a Link>) -> Privileges {
    Privileges {
        capabilities: Fact::from_result(capabilities()),
        initial_user_namespace: Fact::from_result(is_in_initial_user_namespace()),
        locked_memory: Fact::from_result(locked_memory()),
        packet_sockets: Fact::from_result(packet_socket::open().map(drop)),
        pods_entered: Fact::from_result(enter(root, pods)),
    }
}

fn capabilities() -> anyhow::Result<BTreeSet<String>> {
    let held = caps::read(None, CapSet::Effective).context("cannot read this process's capabilities")?;
    Ok(held.iter().map(ToString::to_string).collect())
}

/// Its map of users is the identity over all of them (`user_namespaces(7)`).
fn is_in_initial_user_namespace() -> anyhow::Result<bool> {
    let path = Path::new("/proc/self/uid_map");
    let map = read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

fn locked_memory() -> anyhow::Result<Option<u64>> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).context("cannot read RLIMIT_MEMLOCK")?;
    Ok((soft != RLIM_INFINITY).then_some(soft))
}

/// Enters every pod's network namespace, or its own where there is no pod.
fn enter<'a>(root: &Path, pods: impl IntoIterator<Item = &'a Link>) -> anyhow::Result<usize> {
    let PodInterfaces { read, unread } = pod_interfaces::read(root, pods);
    if let Some(why) = unread.into_values().next() {
        anyhow::bail!(why);
    }
    if read.is_empty() {
        NetworkNamespace::own()?.enter(|| ())?;
    }
    Ok(read.len())
}
