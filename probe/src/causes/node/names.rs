//! What this node is called: by the kernel, by Calico's files, and by the datastore. Calico takes a new name for a
//! new node.

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding},
    model::Model,
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{CniNetwork, Sample},
};

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Names);
    let sample = model.sample;
    let Some(name) = sample.node.calico_node_name.known() else {
        let why = sample.node.calico_node_name.absent().unwrap_or_default();
        review.unseen("Calico's name of this node", why);
        return review;
    };
    review.found(configured_otherwise(sample, name));
    review.found(unregistered(model, name));
    review.found(hostname(sample, name));
    if review.findings.is_empty() {
        review.pass(format!("Calico, its CNI plug-in and the host agree on the name {name}"));
    }
    if sample.datastore.known().is_none() {
        review.unseen(
            "whether another node has this name",
            "only the datastore knows: kubectl get nodes -o wide, or --facts",
        );
    }
    review
}

/// The CNI plug-in files its pods under its own idea of the node's name; Felix looks for them under the other.
fn configured_otherwise(sample: &Sample, name: &str) -> Option<Finding> {
    let networks = sample.control_plane.cni_networks.known()?;
    let configured = |network: &CniNetwork| Some((network.file.clone(), network.node_name.clone()?));
    let (file, other) = networks.iter().find_map(configured)?;
    // A template whose installer fills it in when calico-node starts.
    if other == name || other.starts_with("__") {
        return None;
    }
    let summary =
        format!("Calico calls this node {name}, its CNI plug-in {other}: pods made here are not felix's own");
    let found = finding(Cause::NodeNameMismatch, SubjectKind::Node, name, summary)
        .with_severity(Severity::Warning)
        .with(EvidenceSource::File, format!("/var/lib/calico/nodename: {name}"))
        .with(EvidenceSource::File, format!("/etc/cni/net.d/{file}: nodename {other}"))
        .confirm("kubectl", "kubectl get nodes")
        .confirm(name, "cat /var/lib/calico/nodename; grep -r nodename /etc/cni/net.d");
    Some(found)
}

fn unregistered(model: &Model<'_>, name: &str) -> Option<Finding> {
    let nodes = &model.sample.datastore.known()?.nodes;
    if nodes.is_empty() || nodes.iter().any(|node| node.name == name) {
        return None;
    }
    let address = model.own_address();
    let registered =
        nodes.iter().find(|node| node.address.map(|own| own.addr()) == address && address.is_some());
    let (cause, summary) = match registered {
        Some(other) => (
            Cause::NodeNameChanged,
            format!("Calico calls this node {name}, the datastore has its address as {}", other.name),
        ),
        None => {
            (Cause::NodeNameMismatch, format!("the datastore has no node {name}, as Calico calls this one"))
        }
    };
    let found = finding(cause, SubjectKind::Node, name, summary)
        .with(EvidenceSource::File, format!("/var/lib/calico/nodename: {name}"))
        .with(EvidenceSource::File, format!("the datastore holds {} nodes, not {name}", nodes.len()))
        .confirm("kubectl", "kubectl get nodes -o wide");
    Some(found)
}

/// The host's name and Calico's differ lawfully where NODENAME is set or a domain is left off, so by itself that
/// proves nothing; a change of the host's name after Calico took its own is worth a word.
fn hostname(sample: &Sample, name: &str) -> Option<Finding> {
    let hostname = sample.node.hostname.as_str();
    if let Some(configured) = sample.control_plane.configured_hostname.known()
        && short_name(configured) != short_name(hostname)
    {
        let summary = format!("this host is named {hostname}, and will be {configured} after its next start");
        let found = finding(Cause::NodeNameChanged, SubjectKind::Node, name, summary)
            .with_severity(Severity::Warning)
            .with(EvidenceSource::File, format!("/etc/hostname: {configured}"))
            .with(EvidenceSource::File, format!("uname -n: {hostname}"))
            .confirm(name, "hostnamectl status");
        return Some(found);
    }
    if hostname.is_empty() || short_name(hostname) == short_name(name) {
        return None;
    }
    let control = &sample.control_plane;
    let renamed_since = matches!(
        (control.hostname_changed.known(), control.node_name_changed.known()),
        (Some(host), Some(node)) if host > node
    );
    let (cause, severity) = if renamed_since {
        (Cause::NodeNameChanged, Severity::Warning)
    } else {
        (Cause::NodeNameMismatch, Severity::Info)
    };
    let summary = format!("the host is named {hostname}, Calico calls it {name}");
    let found = finding(cause, SubjectKind::Node, name, summary)
        .inferred()
        .with_severity(severity)
        .with(EvidenceSource::File, format!("uname -n: {hostname}"))
        .with(EvidenceSource::File, format!("/var/lib/calico/nodename: {name}"))
        .confirm("kubectl", format!("kubectl get nodes   # is {name} there, and {hostname}? NODENAME of calico-node may set the name"));
    Some(found)
}

/// A name as it is compared: Calico writes names in lower case; some installers leave the domain off.
pub fn short_name(name: &str) -> String {
    name.split('.').next().unwrap_or(name).to_lowercase()
}
