//! The only place that reads the machine otherwise than by kernel programs. Every reader of files takes a root
//! folder, so that a test hands it one.

pub mod arp_claims;
pub mod bird;
mod calico_files;
pub mod caller;
pub mod changes;
pub mod cni;
mod cni_networks;
pub mod connections;
pub mod counters;
pub mod daemon;
pub mod datastore;
mod felix;
pub mod files;
pub mod frames;
mod host_tables;
pub mod identity;
pub mod kernel_settings;
pub mod logs;
pub mod namespace;
pub mod netfilter;
pub mod netlink;
pub mod next_hops;
pub mod packet_socket;
pub mod pasted;
pub mod pod_interfaces;
pub mod privileges;
mod processes;
pub mod prometheus;
mod queues;
pub mod raw_netlink;
pub mod route_changes;
pub mod saved;
pub mod sets;
pub mod surroundings;
pub mod sysctl;
pub mod traffic_control;

use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::sample::{BgpSession, Bird, FORMAT_VERSION, Fact, FelixSets, NodeIdentity, Sample};
use netlink::Netlink;

/// What the caller says about the node.
#[derive(Clone, Debug)]
pub struct GatherOptions {
    /// The folder under which the host's files lie.
    pub root: PathBuf,
    /// Pools that win over every other source.
    pub pools: Vec<Ipv4Net>,
    /// What the datastore holds, as `kubectl` printed it.
    pub facts: Option<PathBuf>,
}

/// Reads everything of the network namespace of the calling thread. Fails only where rtnetlink does, or where the
/// caller's own file cannot be read.
pub async fn gather(options: &GatherOptions) -> anyhow::Result<Sample> {
    let root = options.root.as_path();
    let datastore = match &options.facts {
        Some(path) => Fact::Known(datastore::read(path)?),
        None => Fact::Absent("only the datastore knows; --facts FILE says".to_owned()),
    };
    let netlink::Facts { links, addresses, routes, next_hops, rules, neighbours } =
        Netlink::open()?.read().await?;
    let sysctls = sysctl::read(root, links.iter().map(|link| link.name.as_str()));
    let (node, sets) = (identity::read(root)?, sets::read(root));
    let bird_pools = bird_pools(root, &node, &sets);
    Ok(Sample {
        format_version: FORMAT_VERSION,
        time: Timestamp::now().to_string(),
        node,
        links,
        addresses,
        routes,
        rules,
        next_hops,
        neighbours,
        sysctls,
        bird_pools,
        sets,
        cni_results: Fact::from_result(cni::read(root)),
        pod_interfaces: Vec::new(),
        counters: counters::read(root),
        given_pools: options.pools.clone(),
        tables: host_tables::read(root),
        queues: Fact::from_result(queues::read()),
        datastore,
        ..Sample::default()
    })
}

/// Felix' sets win, so the configuration is looked for only without them.
fn bird_pools(root: &Path, node: &NodeIdentity, sets: &FelixSets) -> Fact<Vec<Ipv4Net>> {
    if sets.pools.known().is_some_and(|pools| !pools.is_empty()) {
        return Fact::Absent("Felix' sets tell the pools".to_owned());
    }
    let pools = processes::read(root, node.network_namespace)
        .and_then(|processes| bird::configuration::pools(root, &processes));
    Fact::from_result(pools)
}

/// Adds the rules of netfilter.
pub fn gather_rules(options: &GatherOptions, sample: &mut Sample) {
    sample.rule_sets = Fact::Known(netfilter::read(&options.root));
}

/// Adds Calico's own state, which takes as long as BIRD and Felix take to answer, up to two seconds where one hangs.
pub async fn gather_control_plane(options: &GatherOptions, sample: &mut Sample) {
    let root = options.root.as_path();
    let processes = Fact::from_result(processes::read(root, sample.node.network_namespace));
    let seen = processes.known().map_or(&[][..], Vec::as_slice);
    let (bird, felix) = tokio::join!(bird::read(root, seen), felix::read());
    sample.bird = Fact::from_result(bird);
    sample.control_plane = calico_files::read(root);
    sample.control_plane.felix = Fact::from_result(felix);
    sample.control_plane.processes = processes;
}

/// BIRD's sessions alone, within two seconds.
pub async fn sessions(options: &GatherOptions, network_namespace: u64) -> Fact<Vec<BgpSession>> {
    let processes = processes::read(&options.root, network_namespace).unwrap_or_default();
    Fact::from_result(bird::sessions(&options.root, &processes).await)
}

/// BIRD without its routes, within two seconds.
pub async fn routing_daemon(options: &GatherOptions, network_namespace: u64) -> Fact<Bird> {
    let processes = processes::read(&options.root, network_namespace).unwrap_or_default();
    Fact::from_result(bird::without_routes(&options.root, &processes).await)
}
