//! The article's cluster, built from one process: four nodes with two pods each, and the router between them.

mod bird;
mod calico_node;
pub mod felix;
pub mod files;
pub mod network;
pub mod rules;
pub mod services;
pub mod topology;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};

use crate::machine::{Machine, feed};
use topology::{NODES, Node, ROUTER, Variant};

/// The machines of a built cluster, by name. Everything ends when it is dropped.
pub struct Cluster {
    // Dropped first: a node ends only when no process of it is left, and pods' processes are its.
    pods: BTreeMap<String, Machine>,
    nodes: BTreeMap<String, Machine>,
}

impl Cluster {
    /// `bird` is the program that nodes run in clusters with BGP.
    pub fn build(variant: Variant, bird: Option<&Path>) -> Result<Self> {
        let router = Machine::boot(ROUTER)?;
        let nodes = NODES.iter().map(|node| Machine::boot(node.name)).collect::<Result<Vec<_>>>()?;
        let mut pods = BTreeMap::new();
        router.run_in_network(|| {
            network::forward()?;
            feed("ip", &["-batch", "-"], &network::underlay())
        })?;
        for (node, machine) in NODES.iter().zip(&nodes) {
            build_node(node, machine, variant, &mut pods)
                .with_context(|| format!("cannot build {}", node.name))?;
        }
        if variant.has_daemons() {
            let bird = bird.context("this cluster's nodes run BIRD, and none was given (--bird)")?;
            calico_node::start_everywhere(&nodes, bird)?;
        }
        let names = NODES.iter().map(|node| node.name.to_owned());
        let mut nodes: BTreeMap<String, Machine> = names.zip(nodes).collect();
        nodes.insert(ROUTER.to_owned(), router);
        Ok(Self { pods, nodes })
    }

    /// A node, a pod or the router.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        self.nodes.get(name).or_else(|| self.pods.get(name)).with_context(|| {
            let names: Vec<&str> = self.nodes.keys().chain(self.pods.keys()).map(String::as_str).collect();
            format!("the cluster has no machine {name}; it has {}", names.join(", "))
        })
    }
}

fn build_node(
    node: &Node,
    machine: &Machine,
    variant: Variant,
    pods: &mut BTreeMap<String, Machine>,
) -> Result<()> {
    for pod in &node.pods {
        pods.insert(pod.name.to_owned(), machine.boot_pod(pod.name, &pod.namespace_binding())?);
    }
    machine.run(|| {
        network::forward()?;
        feed("ip", &["-batch", "-"], &network::node(node, variant))?;
        network::filter_tunnel()?;
        for pod in &node.pods {
            network::serve_pod(pod)?;
        }
        Ok(())
    })?;
    for pod in &node.pods {
        pods[pod.name].run(|| feed("ip", &["-batch", "-"], &network::pod(pod)))?;
    }
    machine.run(|| {
        feed("ip", &["-batch", "-"], &network::pod_routes(node, variant))?;
        feed("ipset", &["restore"], &felix::sets(node, variant))?;
        let restore = format!("{}-restore", node.backend.iptables());
        feed(&restore, &[], &rules::restore(node, variant))?;
        files::write(node, variant)
    })
}
