//! What Calico and the container runtime leave in a node's files.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use data_encoding::{BASE64, HEXLOWER};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::topology::{NAMESPACE, Node, POD_MTU, Variant};

const HOST_NAME: &str = "/etc/hostname";
const NETWORK: &str = "k8s-pod-network";

/// Writes the files of the calling thread's machine.
pub fn write(node: &Node, variant: Variant) -> Result<()> {
    give_name(node)?;
    put("/var/lib/calico/nodename", node.name)?;
    put("/var/lib/calico/mtu", &POD_MTU.to_string())?;
    let configuration = cni_configuration(node).to_string();
    put("/etc/cni/net.d/10-calico.conflist", &configuration)?;
    for pod in &node.pods {
        let interfaces = interfaces(&pod.interface(), &pod.namespace_binding(), variant);
        cache_result(
            &configuration,
            pod.name,
            &pod.namespace_binding(),
            &pod.address.to_string(),
            &interfaces,
        )?;
    }
    // A pod whose removal failed half way leaves its result behind for ever.
    let gone = format!("gone-{}", node.number);
    let interfaces = interfaces("cali00000000000", "cni-gone", variant);
    cache_result(&configuration, &gone, "cni-gone", &node.tunnel_address.to_string(), &interfaces)
}

/// A machine without this file is left without: the lab writes nothing where others would see it.
fn give_name(node: &Node) -> Result<()> {
    let own = "/run/hostname";
    if !Path::new(HOST_NAME).exists() {
        return Ok(());
    }
    put(own, &format!("{}\n", node.name))?;
    mount(Some(own), HOST_NAME, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot mount {HOST_NAME}"))
}

fn cni_configuration(node: &Node) -> Value {
    json!({
        "name": NETWORK,
        "cniVersion": "0.3.1",
        "plugins": [
            {
                "type": "calico",
                "log_level": "info",
                "log_file_path": "/var/log/calico/cni/cni.log",
                "datastore_type": "kubernetes",
                "nodename": node.name,
                "mtu": 0,
                "ipam": { "type": "calico-ipam" },
                "policy": { "type": "k8s" },
                "kubernetes": { "kubeconfig": "/etc/cni/net.d/calico-kubeconfig" }
            },
            { "type": "portmap", "snat": true, "capabilities": { "portMappings": true } }
        ]
    })
}

/// Only releases since v3.31 name the pod's end.
fn interfaces(host_end: &str, binding: &str, variant: Variant) -> Value {
    if variant.is_recent() {
        json!([{ "name": host_end }, { "name": "eth0", "mtu": POD_MTU, "sandbox": namespace_path(binding) }])
    } else {
        json!([{ "name": host_end }])
    }
}

fn namespace_path(binding: &str) -> String {
    format!("/var/run/netns/{binding}")
}

/// libcni's cache entry for one pod.
fn cache_result(
    configuration: &str,
    pod: &str,
    binding: &str,
    address: &str,
    interfaces: &Value,
) -> Result<()> {
    let container = HEXLOWER.encode(&Sha256::digest(pod));
    let entry = json!({
        "kind": "cniCacheV1",
        "containerId": container,
        "config": BASE64.encode(configuration.as_bytes()),
        "ifName": "eth0",
        "networkName": NETWORK,
        "netns": namespace_path(binding),
        "cniArgs": [
            ["IgnoreUnknown", "1"],
            ["K8S_POD_NAMESPACE", NAMESPACE],
            ["K8S_POD_NAME", pod],
            ["K8S_POD_INFRA_CONTAINER_ID", container]
        ],
        "result": {
            "cniVersion": "0.3.1",
            "dns": {},
            "interfaces": interfaces,
            "ips": [{ "address": format!("{address}/32"), "version": "4" }]
        }
    });
    put(&format!("/var/lib/cni/results/{NETWORK}-{container}-eth0"), &entry.to_string())
}

fn put(path: &str, text: &str) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, text).with_context(|| path.to_owned())
}
