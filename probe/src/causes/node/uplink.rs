//! The address by which other nodes know this one, and the device that has it.

use std::net::Ipv4Addr;

use super::{Review, Topic, duplicates};
use crate::{
    causes::{Cause, case::finding},
    model::{Model, is_pod_link, is_tunnel_link},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Link, Part},
};

/// Bridges and devices of container engines, virtual machines and pod networks, which Calico's autodetection passes
/// over (`node/pkg/lifecycle/startup/autodetection`).
const NO_UPLINKS: [&str; 8] = ["docker", "cbr", "virbr", "lxcbr", "cni", "flannel", "kube-ipvs", "weave"];
/// Docker names the bridges of its networks `br-` and twelve digits of their identity.
const DOCKER_NETWORK: &str = "br-";
const IDENTITY_DIGITS: usize = 12;

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Uplink);
    own_address(model, &mut review);
    had_twice(model, &mut review);
    review
}

fn own_address(model: &Model<'_>, review: &mut Review) {
    let Some((address, told_by)) = claimed(model) else {
        return review
            .unseen("the address that Calico took for this node", "BIRD and the datastore would tell it");
    };
    let sample = model.sample;
    if !sample.holds(Part::Addresses) {
        return review
            .unseen("the device that has the node's address", "the addresses of this node were not shown");
    }
    match sample
        .addresses
        .iter()
        .find(|local| local.address == address)
        .and_then(|local| model.link(local.link))
    {
        None => review.found([wrong_address(model, address, told_by, "no device of this node has it")]),
        Some(link) if is_no_uplink(model, link) => {
            let why = format!("it is on {}, which no other node reaches", link.name);
            review.found([wrong_address(model, address, told_by, &why)]);
        }
        Some(link) => {
            review.pass(format!("the node's address {address} is on {}", link.name));
            review.found(another_uplink(model, address, link));
        }
    }
}

/// Whether two machines have one node's address, where somebody listened.
fn had_twice(model: &Model<'_>, review: &mut Review) {
    let watch = match (model.sample.arp_watch.known(), model.sample.route_watch.known()) {
        (Some(watch), _) => watch,
        (None, None) => return,
        (None, Some(_)) => {
            let why = model.sample.arp_watch.absent().unwrap_or_default();
            return review.unseen("whether two machines have one node's address", why);
        }
    };
    let findings = duplicates::judge(model, watch);
    if findings.is_empty() {
        review.pass("no two machines asked by ARP from one node's address meanwhile");
    }
    review.found(findings);
}

/// Calico's word on the node's address; BIRD's router identity is configured from it.
fn claimed(model: &Model<'_>) -> Option<(Ipv4Addr, &'static str)> {
    let sample = model.sample;
    if let Some(datastore) = sample.datastore.known() {
        let node = datastore.nodes.iter().find(|node| node.name == model.node_name());
        if let Some(address) = node.and_then(|node| node.address) {
            return Some((address.addr(), "the datastore"));
        }
    }
    let bird = sample.bird.known()?;
    let by_session = bird.sessions.iter().find_map(|session| session.source);
    by_session.or(bird.router_id).map(|address| (address, "BIRD"))
}

/// A bridge that a NIC is a port of leads to other nodes, whatever its name.
fn is_no_uplink(model: &Model<'_>, link: &Link) -> bool {
    let is_nic = |port: &Link| port.master == Some(link.index) && port.kind.as_deref() != Some("veth");
    let of_docker = link.name.strip_prefix(DOCKER_NETWORK).is_some_and(|identity| {
        identity.len() == IDENTITY_DIGITS && identity.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let is_named = of_docker || NO_UPLINKS.iter().any(|prefix| link.name.starts_with(prefix));
    is_pod_link(link) || is_tunnel_link(link) || (is_named && !model.sample.links.iter().any(is_nic))
}

fn wrong_address(model: &Model<'_>, address: Ipv4Addr, told_by: &str, why: &str) -> Finding {
    let summary = format!("Calico takes {address} for this node's address, and {why}");
    finding(Cause::NodeAddressWrong, SubjectKind::Address, address.to_string(), summary)
        .with(EvidenceSource::Bird, format!("{told_by} says that this node's address is {address}"))
        .with(EvidenceSource::Link, why)
        .confirm(model.node_name(), "ip -brief -4 address")
        .cure("kubectl", "kubectl -n kube-system set env daemonset/calico-node IP_AUTODETECTION_METHOD=can-reach=ADDRESS-OF-ANOTHER-NODE   # restarts calico-node on every node")
}

/// Several devices may lawfully be uplinks; only that the default route leads elsewhere is worth a word.
fn another_uplink(model: &Model<'_>, address: Ipv4Addr, link: &Link) -> Option<Finding> {
    let default = model.tables.default_link().filter(|default| *default != link.index)?;
    let default = model.link(default)?;
    let summary = format!(
        "the node's address {address} is on {}, the default route leads by {}",
        link.name, default.name
    );
    let found = finding(Cause::UnexpectedUplink, SubjectKind::Interface, &link.name, summary)
        .inferred()
        .with_severity(Severity::Info)
        .with(EvidenceSource::Link, format!("{address} is on {}", link.name))
        .with(EvidenceSource::Route, format!("the default route leads by {}", default.name))
        .confirm(
            "kubectl",
            "kubectl -n kube-system get daemonset calico-node -o yaml | grep -A1 IP_AUTODETECTION_METHOD",
        );
    Some(found)
}
