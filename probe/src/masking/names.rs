//! Names of nodes, pods and namespaces, replaced by others that are as lawful or unlawful as before.

use std::collections::BTreeMap;

use super::Key;
use crate::sample::Sample;

/// Names that say nothing of whose cluster it is.
const ORDINARY: [&str; 9] = [
    "default",
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "calico-system",
    "calico-apiserver",
    "tigera-operator",
    "localhost",
    "node",
];
/// Pods of Calico and Kubernetes themselves.
const ORDINARY_PODS: [&str; 4] = ["calico-node-", "calico-kube-controllers-", "kube-proxy-", "coredns-"];
/// Fields that hold nothing but a name.
const FIELDS: [&str; 8] = [
    "hostname",
    "calico_node_name",
    "configured_hostname",
    "node_name",
    "pasted_from",
    "node",
    "pod",
    "namespace",
];
/// Shorter names are words of any text.
const SHORTEST: usize = 3;

pub struct Names {
    key: Key,
    /// The longest first, so that no part of one is taken for another.
    known: Vec<(String, String)>,
}

impl Names {
    pub fn of(key: &Key, sample: &Sample) -> Self {
        let mut names: Vec<&str> = vec![sample.node.hostname.as_str(), sample.node.pasted_from.as_str()];
        let control = &sample.control_plane;
        names.extend(sample.node.calico_node_name.known().map(String::as_str));
        names.extend(control.configured_hostname.known().map(String::as_str));
        let networks = control.cni_networks.known().into_iter().flatten();
        names.extend(networks.filter_map(|network| network.node_name.as_deref()));
        for result in sample.cni_results.known().into_iter().flatten() {
            names.extend([&result.namespace, &result.pod].into_iter().flatten().map(String::as_str));
        }
        if let Some(datastore) = sample.datastore.known() {
            names.extend(datastore.nodes.iter().map(|node| node.name.as_str()));
            names.extend(datastore.affinities.iter().map(|affinity| affinity.node.as_str()));
            for pod in &datastore.pods {
                names.extend([pod.namespace.as_str(), pod.name.as_str()]);
            }
        }
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for name in names {
            known.entry(name.to_owned()).or_insert_with(|| masked(key, name));
            // Calico writes `-` twice where it joins names, and hosts leave their domain off.
            known.entry(name.replace('-', "--")).or_insert_with(|| masked(key, name).replace('-', "--"));
            if let Some((short, _)) = name.split_once('.') {
                known.entry(short.to_owned()).or_insert_with(|| masked(key, short));
            }
        }
        let mut known: Vec<(String, String)> =
            known.into_iter().filter(|(name, masked)| name.len() >= SHORTEST && name != masked).collect();
        known.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { key: key.clone(), known }
    }

    /// A field's text: one that is a name as a whole, or one that may hold names between other words. Single words of
    /// other fields are the format's own.
    pub fn in_field(&self, field: &str, text: &str) -> String {
        if FIELDS.contains(&field) && !text.contains([' ', '/']) {
            return masked(&self.key, text);
        }
        let is_known = || self.known.iter().any(|(name, _)| name == text);
        let is_text = FIELDS.contains(&field) || text.contains([' ', '/', ':', '=']);
        if is_text || (matches!(field, "name" | "value") && is_known()) {
            self.in_text(text)
        } else {
            text.to_owned()
        }
    }

    fn in_text(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, (name, masked)| replaced(&text, name, masked))
    }
}

/// Where nothing that could belong to a longer name is around it.
fn replaced(text: &str, name: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(name) {
        let (head, tail) = rest.split_at(at);
        let tail = tail.get(name.len()..).unwrap_or_default();
        let touches = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let is_whole = !touches(head.chars().next_back().or(before)) && !touches(tail.chars().next());
        out.push_str(head);
        out.push_str(if is_whole { by } else { name });
        before = name.chars().next_back();
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Each part between dots by itself: with a domain and without it a name is the same.
fn masked(key: &Key, name: &str) -> String {
    let is_ordinary = name.is_empty()
        || ORDINARY.contains(&name)
        || ORDINARY_PODS.iter().any(|pod| name.starts_with(pod))
        || name.starts_with("__")
        || name.parse::<std::net::IpAddr>().is_ok();
    if is_ordinary {
        return name.to_owned();
    }
    name.split('.').map(|label| masked_label(key, label)).collect::<Vec<_>>().join(".")
}

/// What is unlawful about it stays: upper case, and characters that no name may have.
fn masked_label(key: &Key, label: &str) -> String {
    if label.is_empty() {
        return String::new();
    }
    let hex = key.hex("name", &label.to_lowercase(), 8);
    let first = if label.chars().any(char::is_uppercase) { 'N' } else { 'n' };
    let unlawful: String = label.chars().filter(|c| !c.is_ascii_alphanumeric() && *c != '-').collect();
    format!("{first}{hex}{unlawful}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Fact, NodeIdentity};

    fn names() -> Names {
        let node = NodeIdentity {
            hostname: "paas-187.example.com".to_owned(),
            calico_node_name: Fact::Known("paas-187".to_owned()),
            ..NodeIdentity::default()
        };
        Names::of(&Key::new(*b"key"), &Sample { node, ..Sample::default() })
    }

    #[test]
    fn a_name_is_replaced_alike_in_fields_and_texts() {
        let names = names();
        let short = names.in_field("calico_node_name", "paas-187");
        assert!(!short.contains("paas"));
        assert!(names.in_field("hostname", "paas-187.example.com").starts_with(&format!("{short}.")));
        assert_eq!(names.in_field("text", "on paas-187: no"), format!("on {short}: no"));
        assert_eq!(names.in_field("of", "kube-system/etcd-paas-187"), format!("kube-system/etcd-{short}"));
        assert_eq!(
            names.in_field("text", "paas-1870 and xpaas-187 are others"),
            "paas-1870 and xpaas-187 are others"
        );
        assert_eq!(names.in_field("kind", "paas-187"), "paas-187");
    }

    #[test]
    fn what_is_unlawful_about_a_name_stays() {
        let key = Key::new(*b"key");
        assert_eq!(masked(&key, "Node-A").to_lowercase(), masked(&key, "node-a"));
        assert!(masked(&key, "Node-A").starts_with('N') && masked(&key, "node_a").ends_with('_'));
        assert_eq!(masked(&key, "kube-system"), "kube-system");
    }
}
