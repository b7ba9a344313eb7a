//! The pod networks that the container runtime is configured with (containernetworking/cni, `libcni/conf.go`): it
//! takes the first file of `/etc/cni/net.d` by name.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

use super::files::read_text;
use crate::sample::CniNetwork;

const FOLDER: &str = "etc/cni/net.d";
const MOST_FILES: usize = 64;

/// Reads the files that the runtime would, in its order; broken ones are passed over as the runtime does.
pub fn read(root: &Path) -> anyhow::Result<Vec<CniNetwork>> {
    let folder = root.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| [".conf", ".conflist", ".json"].iter().any(|ending| name.ends_with(ending)))
        .take(MOST_FILES)
        .collect();
    files.sort_unstable();
    let network = |file: &String| parse(file, &read_text(&folder.join(file)).ok()?);
    Ok(files.iter().filter_map(network).collect())
}

/// A list of plug-ins, or one plug-in alone.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    name: String,
    plugins: Option<Vec<Plugin>>,
    #[serde(flatten)]
    single: Plugin,
}

#[derive(Default, Deserialize)]
struct Plugin {
    #[serde(rename = "type", default)]
    kind: String,
    nodename: Option<String>,
    datastore_type: Option<String>,
    etcd_endpoints: Option<String>,
}

fn parse(file: &str, text: &str) -> Option<CniNetwork> {
    let File { name, plugins, single } = serde_json::from_str(text).ok()?;
    let plugins = plugins.unwrap_or_else(|| vec![single]);
    let calico = plugins.iter().find(|plugin| plugin.kind == "calico");
    let datastore = calico.and_then(|plugin| {
        let by_endpoints = plugin.etcd_endpoints.as_ref().map(|_| "etcdv3".to_owned());
        plugin.datastore_type.clone().or(by_endpoints)
    });
    Some(CniNetwork {
        file: file.to_owned(),
        name,
        node_name: calico.and_then(|plugin| plugin.nodename.clone()),
        datastore,
        plugins: plugins.into_iter().map(|plugin| plugin.kind).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_the_order_of_the_runtime() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in [
            ("10-flannel.conf", r#"{"name": "cbr0", "type": "flannel"}"#),
            (
                "10-calico.conflist",
                r#"{"name": "k8s-pod-network", "plugins": [{"type": "calico", "nodename": "paas-187", "etcd_endpoints": "http://x"}, {"type": "portmap"}]}"#,
            ),
            ("20-broken.conflist", "{"),
            ("calico-kubeconfig", "apiVersion: v1"),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
        let networks = read(root.path()).unwrap();
        let files: Vec<&str> = networks.iter().map(|network| network.file.as_str()).collect();
        assert_eq!(files, ["10-calico.conflist", "10-flannel.conf"]);
        assert_eq!(networks[0].plugins, ["calico", "portmap"]);
        assert_eq!(networks[0].node_name.as_deref(), Some("paas-187"));
        assert_eq!(networks[0].datastore.as_deref(), Some("etcdv3"));
    }
}
