//! What `diagnose` and `observe` have in common: a look at the node, and the taps that follow probes on it.

use std::net::Ipv4Addr;

use anyhow::Context as _;

use crate::{
    causes::trail::DeviceRole,
    cli::Global,
    kernel::trace::TraceRequest,
    model::Model,
    probing::follower::Follower,
    sample::{Link, PodInterface, Sample},
    sources::{self, pod_interfaces},
};

/// How many pods without a route are looked into, at most.
const MOST_CANDIDATES: usize = 64;
/// `ARPHRD_LOOPBACK`, `linux/if_arp.h`.
const LOOPBACK: u16 = 772;

/// A look at this node with its rules; pods come later, once it is known which of them matter.
pub async fn look(global: &Global) -> anyhow::Result<Sample> {
    sources::gather(&global.sources()).await.context("cannot read this node's network state")
}

/// Adds the rules of netfilter, and those pods' own ends that a question about this target may be about: those behind
/// `links`, and those to which no route leads. What cannot be entered is left out: it is unknown.
pub fn look_closer(sample: &mut Sample, target: Ipv4Addr, links: &[u32], global: &Global) {
    sample.pod_interfaces = pods_ends(sample, target, links, global);
    sources::gather_rules(&global.sources(), sample);
}

fn pods_ends(sample: &Sample, target: Ipv4Addr, links: &[u32], global: &Global) -> Vec<PodInterface> {
    let model = Model::new(sample);
    let mut links = links.to_vec();
    if model.remote_block(target).is_none() {
        links.extend(model.pod_links_without_route().take(MOST_CANDIDATES).map(|link| link.index));
    }
    links.sort_unstable();
    links.dedup();
    let links = links.into_iter().filter_map(|index| model.link(index));
    pod_interfaces::read(&global.root, links).read
}

/// The devices whose traffic tells where a packet is: `tunl0`, these pods', and every one that may lead to another
/// machine.
pub fn taps(model: &Model<'_>, pods: &[u32]) -> Vec<u32> {
    let wanted = |link: &&Link| match DeviceRole::of(link) {
        DeviceRole::Tunnel => true,
        DeviceRole::Pod => pods.contains(&link.index),
        DeviceRole::Wire => model.is_wire(link.index) || is_idle_uplink(link),
    };
    model.sample.links.iter().filter(wanted).map(|link| link.index).collect()
}

/// A network card that no route uses; packets may come in by it all the same.
fn is_idle_uplink(link: &Link) -> bool {
    link.kind.is_none() && link.up && link.master.is_none() && link.link_layer_type != LOOPBACK
}

pub fn start_follower(request: &TraceRequest, without_bpf: bool) -> anyhow::Result<Follower> {
    if without_bpf {
        Follower::without_programs(request, "--no-bpf was given")
    } else {
        Follower::start(request)
    }
}
