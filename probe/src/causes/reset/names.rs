//! Under which other name the cluster may have this node: Calico takes a new name for a new node, and the old one
//! keeps its blocks.

use serde::Serialize;

use crate::{
    causes::{Cause, node::short_name},
    model::Model,
    report::document::{Finding, Severity},
};

/// A node that changed its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Renamed {
    pub old: String,
    pub new: String,
    /// Whether the new name takes effect with the host's next start only.
    pub at_next_start: bool,
}

/// The two names, where `check` finds that the name changed or that names disagree.
pub fn renamed(model: &Model<'_>, findings: &[Finding]) -> Option<Renamed> {
    let is_about_names = |finding: &&Finding| {
        matches!(finding.cause, Cause::NodeNameChanged | Cause::NodeNameMismatch)
            && finding.severity >= Severity::Warning
    };
    findings.iter().find(is_about_names)?;
    let sample = model.sample;
    let hostname = sample.node.hostname.as_str();
    let differs = |name: &&str| !name.is_empty() && short_name(name) != short_name(hostname);
    let old =
        [registered(model), sample.node.calico_node_name.known().map(String::as_str), configured(model)];
    // The kubelet and Calico write names in lower case.
    if let Some(old) = old.into_iter().flatten().find(differs) {
        return Some(Renamed { old: old.to_owned(), new: hostname.to_lowercase(), at_next_start: false });
    }
    let next = sample.control_plane.configured_hostname.known()?;
    (short_name(next) != short_name(hostname)).then(|| Renamed {
        old: hostname.to_owned(),
        new: next.to_lowercase(),
        at_next_start: true,
    })
}

/// The name that the datastore has for this node's address.
fn registered<'a>(model: &Model<'a>) -> Option<&'a str> {
    let address = model.own_address()?;
    let nodes = &model.sample.datastore.known()?.nodes;
    let node = nodes.iter().find(|node| node.address.is_some_and(|own| own.addr() == address))?;
    Some(&node.name)
}

/// The name that the CNI plug-in files its pods under.
fn configured<'a>(model: &Model<'a>) -> Option<&'a str> {
    let networks = model.sample.control_plane.cni_networks.known()?;
    let mut names = networks.iter().filter_map(|network| network.node_name.as_deref());
    names.find(|name| !name.starts_with("__"))
}
