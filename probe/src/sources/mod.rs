//! The only place that reads the machine otherwise than by kernel programs. Every reader of files takes a root
//! folder, so that a test hands it one.

pub mod changes;
pub mod cni;
pub mod counters;
pub mod files;
pub mod identity;
pub mod kernel_settings;
pub mod namespace;
pub mod netfilter;
pub mod netlink;
pub mod next_hops;
pub mod packet_socket;
pub mod pod_interfaces;
pub mod privileges;
pub mod raw_netlink;
pub mod saved;
pub mod sets;
pub mod sysctl;
pub mod traffic_control;

use std::path::PathBuf;

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::sample::{FORMAT_VERSION, Fact, Sample};
use netlink::Netlink;

/// What the caller says about the node.
#[derive(Clone, Debug)]
pub struct GatherOptions {
    /// The folder under which the host's files lie.
    pub root: PathBuf,
    /// Pools that win over every other source.
    pub pools: Vec<Ipv4Net>,
}

/// Reads everything of the network namespace of the calling thread. Fails only where rtnetlink does.
pub async fn gather(options: &GatherOptions) -> anyhow::Result<Sample> {
    let root = options.root.as_path();
    let netlink::Facts { links, addresses, routes, next_hops, rules, neighbours } =
        Netlink::open()?.read().await?;
    let sysctls = sysctl::read(root, links.iter().map(|link| link.name.as_str()));
    Ok(Sample {
        format_version: FORMAT_VERSION,
        time: Timestamp::now().to_string(),
        node: identity::read(root)?,
        links,
        addresses,
        routes,
        rules,
        next_hops,
        neighbours,
        sysctls,
        sets: sets::read(root),
        base_chains: Fact::from_result(netfilter::read(root)),
        cni_results: Fact::from_result(cni::read(root)),
        pod_interfaces: Vec::new(),
        counters: counters::read(root),
        given_pools: options.pools.clone(),
        ..Sample::default()
    })
}
