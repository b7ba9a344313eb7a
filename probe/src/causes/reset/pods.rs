//! The pods of this node that have an address of their own, and what makes each of them anew.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::Serialize;

use super::command;
use crate::{
    model::Model,
    sample::{CniResult, DatastorePod, PodOwner},
};

/// A pod that a reset may leave without its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResetPod {
    pub namespace: String,
    pub name: String,
    pub addresses: Vec<Ipv4Addr>,
    /// Who makes it again once it is deleted, such as `ReplicaSet/web-5c98`; absent where nobody does, or where it
    /// is not known.
    pub owner: Option<String>,
    /// Nobody makes it again; absent where only the datastore knows.
    pub bare: Option<bool>,
    /// What deletes it, so that its owner makes it anew.
    pub run: String,
}

/// What deletes a pod, so that its owner makes it anew.
fn restart_line(namespace: &str, name: &str) -> String {
    command::of_object(&["kubectl", "-n", namespace, "delete", "pod"], name)
}

/// Those that run here, by name.
pub fn of(model: &Model<'_>) -> Vec<ResetPod> {
    let mut pods: BTreeMap<(String, String), Vec<Ipv4Addr>> = BTreeMap::new();
    for result in model.sample.cni_results.known().into_iter().flatten() {
        if let (Some(namespace), Some(pod)) = (&result.namespace, &result.pod)
            && is_here(model, result)
        {
            pods.insert((namespace.clone(), pod.clone()), result.addresses.clone());
        }
    }
    let datastore = model.sample.datastore.known();
    let node = model.node_name();
    let known = || datastore.into_iter().flat_map(|datastore| &datastore.pods);
    for pod in known().filter(|pod| pod.node.as_deref() == Some(&node) && has_network(pod)) {
        pods.entry((pod.namespace.clone(), pod.name.clone())).or_insert_with(|| pod.addresses.clone());
    }
    let owners: BTreeMap<(&str, &str), &PodOwner> =
        known().map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), &pod.owner)).collect();
    let pod = |((namespace, name), addresses): ((String, String), Vec<Ipv4Addr>)| {
        let (owner, bare) = match owners.get(&(namespace.as_str(), name.as_str())) {
            Some(PodOwner::Controller(owner)) => (Some(owner.clone()), Some(false)),
            Some(PodOwner::Nobody) => (None, Some(true)),
            Some(PodOwner::NotRead) | None => (None, None),
        };
        ResetPod { run: restart_line(&namespace, &name), namespace, name, addresses, owner, bare }
    };
    pods.into_iter().map(pod).collect()
}

/// A result of the container runtime's cache may outlive its pod.
fn is_here(model: &Model<'_>, result: &CniResult) -> bool {
    let interface = result.host_interface.as_deref();
    interface.is_some_and(|name| model.link_by_name(name).is_some())
        || result.addresses.iter().any(|address| model.is_local_pod(*address))
}

fn has_network(pod: &DatastorePod) -> bool {
    !pod.host_network && !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
}
