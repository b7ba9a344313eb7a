//! Pods' own ends of their veths, read inside the pods' network namespaces.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::Context as _;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

use super::{counters, namespace::NetworkNamespace};
use crate::sample::{Link, PodInterface};

/// What could be read, and why the rest could not, by the index of the device on this side.
#[derive(Debug, Default)]
pub struct PodInterfaces {
    pub read: Vec<PodInterface>,
    pub unread: BTreeMap<u32, String>,
}

/// Looks into the pods behind these devices.
pub fn read<'a>(root: &Path, links: impl IntoIterator<Item = &'a Link>) -> PodInterfaces {
    let mut interfaces = PodInterfaces::default();
    let mut wanted: HashMap<i32, Vec<&Link>> = HashMap::new();
    for link in links {
        match link.peer_namespace {
            Some(id) => wanted.entry(id).or_default().push(link),
            None => {
                interfaces.fail(link, "it does not say in which network namespace its peer is".to_owned());
            }
        }
    }
    if wanted.is_empty() {
        return interfaces;
    }
    let inhabited = NetworkNamespace::inhabited(root);
    let outcome = NetworkNamespace::find_map(root, |id, namespace| {
        for link in wanted.remove(&id).unwrap_or_default() {
            match look(&namespace, link) {
                Ok(interface) => interfaces.read.extend(interface.map(|interface| PodInterface {
                    inhabited: inhabited.as_ref().map(|inodes| inodes.contains(&namespace.inode)),
                    ..interface
                })),
                Err(error) => interfaces.fail(link, format!("{error:#}")),
            }
        }
        wanted.is_empty().then_some(())
    });
    let why = outcome.err().map_or_else(
        || format!("its network namespace is not to be found under {}", root.display()),
        |error| format!("{error:#}"),
    );
    for link in wanted.into_values().flatten() {
        interfaces.fail(link, why.clone());
    }
    interfaces.read.sort_by_key(|interface| interface.link);
    interfaces
}

impl PodInterfaces {
    fn fail(&mut self, link: &Link, why: String) {
        tracing::debug!("cannot look into the pod behind {}: {why}", link.name);
        self.unread.insert(link.index, why);
    }
}

fn look(namespace: &NetworkNamespace, link: &Link) -> anyhow::Result<Option<PodInterface>> {
    let peer = link.lower.context("it names no peer")?;
    let index = link.index;
    namespace.enter(move || in_this_namespace(index, peer))?
}

/// Reads the veth's end in the namespace of the calling thread.
fn in_this_namespace(link: u32, peer: u32) -> anyhow::Result<Option<PodInterface>> {
    let mut interface: Option<PodInterface> = None;
    for entry in getifaddrs().context("cannot list the pod's interfaces")? {
        let index = nix::net::if_::if_nametoindex(entry.interface_name.as_str());
        if index != Ok(peer) {
            continue;
        }
        let address = entry.address.and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        let found = interface.get_or_insert_with(|| PodInterface {
            link,
            name: entry.interface_name.clone(),
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            carrier: entry.flags.contains(InterfaceFlags::IFF_RUNNING),
            addresses: Vec::new(),
            inhabited: None,
            checksum_errors: None,
        });
        found.addresses.extend(address);
    }
    if let Some(interface) = &mut interface {
        let counters = counters::read(Path::new("/"));
        let of = |name: &str| counters.get(name).copied();
        interface.checksum_errors =
            of("Tcp.InCsumErrors").zip(of("Udp.InCsumErrors")).map(|(tcp, udp)| tcp + udp);
    }
    Ok(interface)
}
