//! Looks at pods' own ends of their veths, for those that the question may be about.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

use super::{Question, pod_namespace};
use crate::{
    cli::Global,
    model::Model,
    sample::{PodInterface, Sample},
};

/// How many pods without a route are looked into, at most.
const MOST_CANDIDATES: usize = 64;

/// What can be seen of them. What cannot be entered is left out: it is unknown.
pub fn look_into(sample: &Sample, question: &Question, global: &Global) -> Vec<PodInterface> {
    let model = Model::new(sample);
    let mut links: Vec<u32> = question.pod_links(&model);
    if model.remote_block(question.target).is_none() {
        links.extend(model.pod_links_without_route().take(MOST_CANDIDATES).map(|link| link.index));
    }
    links.sort_unstable();
    links.dedup();
    links
        .into_iter()
        .filter_map(|link| match look(sample, link, global) {
            Ok(interface) => interface,
            Err(error) => {
                tracing::debug!("cannot look into the pod behind device {link}: {error:#}");
                None
            }
        })
        .collect()
}

fn look(sample: &Sample, link: u32, global: &Global) -> anyhow::Result<Option<PodInterface>> {
    let peer = sample.links.iter().find(|other| other.index == link).and_then(|link| link.lower);
    pod_namespace(sample, link, global)?.enter(move || read(link, peer.context("it names no peer")?))?
}

/// Reads the veth's end in the namespace of the calling thread.
fn read(link: u32, peer: u32) -> anyhow::Result<Option<PodInterface>> {
    let mut interface: Option<PodInterface> = None;
    for entry in getifaddrs().context("cannot list the pod's interfaces")? {
        let index = nix::net::if_::if_nametoindex(entry.interface_name.as_str());
        if index != Ok(peer) {
            continue;
        }
        let address = entry.address.and_then(|address| Some(Ipv4Addr::from(address.as_sockaddr_in()?.ip())));
        let found = interface.get_or_insert_with(|| PodInterface {
            link,
            name: entry.interface_name.clone(),
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            carrier: entry.flags.contains(InterfaceFlags::IFF_RUNNING),
            addresses: Vec::new(),
        });
        found.addresses.extend(address);
    }
    Ok(interface)
}
