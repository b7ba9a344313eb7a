//! What the container runtime cached of the CNI results of this node's pods (containernetworking/cni,
//! libcni/api.go). A file may outlive its pod: it names, it does not prove.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use ipnet::Ipv4Net;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

use super::files::read_text;
use crate::sample::CniResult;

/// Where runtimes keep their results.
const FOLDERS: [&str; 2] = ["var/lib/cni/results", "var/lib/cni/cache/results"];
/// More than a node has pods; what is beyond is not read.
const MOST_RESULTS: usize = 4096;
/// Bytes of a pod's hash in the name of its interface, in hexadecimal digits.
const HASH_DIGITS: usize = 11;

/// The results that give a pod an IPv4 address.
pub fn read(root: &Path) -> anyhow::Result<Vec<CniResult>> {
    let folders: Vec<PathBuf> =
        FOLDERS.iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()).collect();
    anyhow::ensure!(!folders.is_empty(), "no CNI result cache under {}", root.join(FOLDERS[0]).display());
    let mut results = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries.flatten().take(MOST_RESULTS) {
            results.extend(read_text(&entry.path()).ok().and_then(|text| parse(&text)));
        }
    }
    Ok(results)
}

/// The name of the host's end of a pod's veth (`libcalico-go`, `workload_endpoint_default.go`).
pub fn interface_name(namespace: &str, pod: &str) -> String {
    let digits = format!("{:x}", Sha1::digest(format!("{namespace}.{pod}")));
    format!("cali{}", &digits[..HASH_DIGITS])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    container_id: String,
    netns: Option<String>,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    result: Option<PluginResult>,
}

#[derive(Default, Deserialize)]
struct PluginResult {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Interface {
    name: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
}

/// One file; `None` where it is empty, broken, or gives no IPv4 address.
fn parse(text: &str) -> Option<CniResult> {
    let cached: Cached = serde_json::from_str(text).ok()?;
    // libcni before 0.8 stored the bare result.
    let result = cached.result.or_else(|| serde_json::from_str(text).ok())?;
    let addresses: Vec<Ipv4Addr> = result.ips.iter().filter_map(|ip| address_of(&ip.address)).collect();
    if addresses.is_empty() {
        return None;
    }
    let argument = |name: &str| {
        let found = cached.cni_args.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| printable(value))
    };
    Some(CniResult {
        namespace: argument("K8S_POD_NAMESPACE"),
        pod: argument("K8S_POD_NAME"),
        container_id: printable(&cached.container_id),
        host_interface: result
            .interfaces
            .iter()
            .map(|interface| printable(&interface.name))
            .find(|name| name.starts_with("cali")),
        addresses,
        network_namespace: cached.netns,
    })
}

fn address_of(text: &str) -> Option<Ipv4Addr> {
    text.parse::<Ipv4Net>().map(|net| net.addr()).or_else(|_| text.parse()).ok()
}

/// Names from a file reach a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_of_a_pod_is_named_by_its_hash() {
        assert_eq!(interface_name("default", "web-0"), "cali0d7763386da");
        assert_eq!(interface_name("namespace", "podname"), "cali82111e10a96");
    }

    #[test]
    fn a_cached_result_names_pod_interface_and_address() {
        let text = r#"{"kind":"cniCacheV1","containerId":"c1","networkName":"k8s-pod-network",
            "cniArgs":[["K8S_POD_NAMESPACE","default"],["K8S_POD_NAME","web-0"]],
            "result":{"interfaces":[{"name":"cali0d7763386da"}],"ips":[{"address":"10.244.1.2/32","version":"4"}]}}"#;
        let result = parse(text).expect("a result");
        assert_eq!(result.pod.as_deref(), Some("web-0"));
        assert_eq!(result.host_interface.as_deref(), Some("cali0d7763386da"));
        assert_eq!(result.addresses, vec![Ipv4Addr::new(10, 244, 1, 2)]);
    }

    #[test]
    fn a_bare_result_of_an_old_library_is_read_and_broken_files_are_not() {
        let bare = r#"{"interfaces":[{"name":"cali1"}],"ips":[{"address":"10.0.0.1/32"}]}"#;
        assert_eq!(parse(bare).expect("a result").addresses, vec![Ipv4Addr::new(10, 0, 0, 1)]);
        for broken in
            ["", "{", "[]", "null", r#"{"result":{"ips":[{"address":"fe80::1/64"}]}}"#, r#"{"cniArgs":7}"#]
        {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
