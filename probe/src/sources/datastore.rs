//! `--facts FILE`: what `kubectl get nodes,pods,ippools,blockaffinities -A -o json` printed, one list or several one
//! after another.

use std::{collections::BTreeMap, fs::File, io::Read as _, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, ensure};
use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::sample::{
    BlockAffinity, Datastore, DatastoreNode, DatastorePod, DatastorePool, IpipMode, PodOwner,
};

/// A cluster of 5,000 nodes and 150,000 pods prints about this.
const LARGEST: u64 = 1 << 30;
/// Calico's default (`libcalico-go/lib/clientv3/ippool.go`).
const DEFAULT_BLOCK_LENGTH: u8 = 26;

/// Reads the file; the error says what it is instead.
pub fn read(path: &Path) -> anyhow::Result<Datastore> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let length = file.take(LARGEST).read_to_string(&mut text);
    let length = length.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!((length as u64) < LARGEST, "{} is larger than {} MiB", path.display(), LARGEST >> 20);
    parse(&text).with_context(|| {
        format!(
            "{} is not what `kubectl get nodes,pods,ippools,blockaffinities -A -o json` prints",
            path.display()
        )
    })
}

fn parse(text: &str) -> anyhow::Result<Datastore> {
    let mut datastore = Datastore::default();
    let mut known = 0usize;
    for document in serde_json::Deserializer::from_str(text).into_iter::<Object>() {
        let document = document?;
        let items = match document.items {
            Some(items) => items,
            None => vec![document],
        };
        for item in items {
            known += usize::from(enter(&mut datastore, item));
        }
    }
    ensure!(known > 0, "it holds no node, pod, IP pool or block affinity");
    Ok(datastore)
}

/// Any object of Kubernetes, or a list of them.
#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    kind: String,
    items: Option<Vec<Object>>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Deserialize)]
struct OwnerReference {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    cidr: Option<String>,
    ipip_mode: Option<String>,
    vxlan_mode: Option<String>,
    nat_outgoing: Option<bool>,
    disabled: Option<bool>,
    block_size: Option<u8>,
    node: Option<String>,
    state: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs", default)]
    pod_ips: Vec<PodIp>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    state: Option<ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Deserialize)]
struct Waiting {
    reason: Option<String>,
}

/// Takes what it knows; says whether it did.
fn enter(datastore: &mut Datastore, object: Object) -> bool {
    match object.kind.as_str() {
        "Node" => datastore.nodes.push(node(object)),
        "Pod" => datastore.pods.push(pod(object)),
        "IPPool" => datastore.pools.extend(pool(object)),
        "BlockAffinity" => datastore.affinities.extend(affinity(object)),
        _ => return false,
    }
    true
}

fn node(object: Object) -> DatastoreNode {
    let annotation = |name: &str| object.metadata.annotations.get(&format!("projectcalico.org/{name}"));
    let ready = object.status.conditions.iter().find(|condition| condition.kind == "Ready");
    DatastoreNode {
        address: annotation("IPv4Address").and_then(|text| network(text)),
        tunnel_address: annotation("IPv4IPIPTunnelAddr").and_then(|text| text.parse().ok()),
        ready: ready.map(|condition| condition.status == "True"),
        name: object.metadata.name,
    }
}

fn pod(object: Object) -> DatastorePod {
    let Object { metadata, spec, status, .. } = object;
    let listed = status.pod_ips.into_iter().filter_map(|address| address.ip);
    let mut addresses: Vec<Ipv4Addr> =
        listed.chain(status.pod_ip).filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let waiting = status.container_statuses.into_iter().filter_map(|status| status.state?.waiting?.reason);
    let owner = metadata.owner_references.first();
    DatastorePod {
        owner: owner
            .map_or(PodOwner::Nobody, |owner| PodOwner::Controller(format!("{}/{}", owner.kind, owner.name))),
        namespace: metadata.namespace,
        name: metadata.name,
        node: spec.node_name,
        addresses,
        host_network: spec.host_network.unwrap_or(false),
        phase: status.phase,
        waiting: waiting.collect(),
    }
}

/// IPv6 pools are not ours.
fn pool(object: Object) -> Option<DatastorePool> {
    let spec = object.spec;
    Some(DatastorePool {
        name: object.metadata.name,
        cidr: spec.cidr?.parse().ok()?,
        ipip: match spec.ipip_mode.as_deref() {
            Some("Always") => IpipMode::Always,
            Some("CrossSubnet") => IpipMode::CrossSubnet,
            _ => IpipMode::Never,
        },
        vxlan: spec.vxlan_mode.is_some_and(|mode| mode != "Never"),
        nat_outgoing: spec.nat_outgoing.unwrap_or(false),
        disabled: spec.disabled.unwrap_or(false),
        block_length: spec.block_size.unwrap_or(DEFAULT_BLOCK_LENGTH),
    })
}

fn affinity(object: Object) -> Option<BlockAffinity> {
    let spec = object.spec;
    Some(BlockAffinity {
        block: spec.cidr?.parse().ok()?,
        node: spec.node?,
        state: spec.state.unwrap_or_else(|| "confirmed".to_owned()),
    })
}

/// An address with its mask, or alone.
fn network(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRINTED: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"kind": "Node", "metadata": {"name": "paas-187", "annotations": {
            "projectcalico.org/IPv4Address": "172.30.10.187/24", "projectcalico.org/IPv4IPIPTunnelAddr": "10.200.153.64"}},
         "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"kind": "Pod", "metadata": {"name": "web-187", "namespace": "default"}, "spec": {"nodeName": "paas-187"},
         "status": {"phase": "Running", "podIP": "10.200.153.70", "podIPs": [{"ip": "10.200.153.70"}],
            "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}},
        {"kind": "Pod", "metadata": {"name": "web-1", "namespace": "default", "ownerReferences": [{"kind": "ReplicaSet", "name": "web"}]}},
        {"kind": "IPPool", "metadata": {"name": "default"}, "spec": {"cidr": "10.200.0.0/16", "ipipMode": "CrossSubnet", "blockSize": 28}},
        {"kind": "IPPool", "metadata": {"name": "six"}, "spec": {"cidr": "fd00::/64"}}]}
        {"kind": "BlockAffinity", "metadata": {}, "spec": {"cidr": "10.200.153.64/26", "node": "paas-187", "state": "confirmed", "deleted": "false"}}"#;

    #[test]
    fn lists_of_kubectl_are_read() {
        let datastore = parse(PRINTED).unwrap();
        let node = &datastore.nodes[0];
        assert_eq!((node.ready, node.address), (Some(false), Some("172.30.10.187/24".parse().unwrap())));
        assert_eq!(datastore.pods[0].addresses, [Ipv4Addr::new(10, 200, 153, 70)]);
        assert_eq!(datastore.pods[0].waiting, ["CrashLoopBackOff"]);
        assert_eq!(datastore.pods[0].owner, PodOwner::Nobody);
        assert_eq!(datastore.pods[1].owner, PodOwner::Controller("ReplicaSet/web".to_owned()));
        assert_eq!(datastore.pools.len(), 1);
        assert_eq!((datastore.pools[0].ipip, datastore.pools[0].block_length), (IpipMode::CrossSubnet, 28));
        assert_eq!(datastore.affinities[0].node, "paas-187");
    }

    #[test]
    fn what_kubectl_does_not_print_is_refused() {
        for text in ["", "[]", "{}", "NAME STATUS", r#"{"kind": "List", "items": []}"#, r#"{"kind": "Node""#]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(cut in 0..PRINTED.len()) {
            let _ = parse(PRINTED.get(..cut).unwrap_or_default());
        }
    }
}
