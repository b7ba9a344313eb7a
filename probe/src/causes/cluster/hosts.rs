//! Whether each node takes encapsulated packets of each other one: Felix lets in what comes from its set of hosts.

use std::net::Ipv4Addr;

use super::{Cluster, Node, list};
use crate::{
    causes::{Cause, case::finding, node::felix_anew_on},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
};

pub fn judge(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    cluster
        .nodes
        .iter()
        .filter(|(_, node)| node.needs_tunnel && node.hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()))
        .filter_map(|(place, node)| Some((*place, refused(cluster, *place, node)?)))
        .collect()
}

/// A node that is not in the set, and whether it sends through the tunnel.
struct Absent<'a> {
    node: &'a Node,
    address: Ipv4Addr,
    sends: Sends,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    Encapsulated,
    Bare,
    Unknown,
}

fn refused(cluster: &Cluster<'_>, place: usize, node: &Node) -> Option<Finding> {
    let others = cluster.nodes.iter().filter(|(other, _)| *other != place);
    let mut absent: Vec<Absent<'_>> = others
        .filter(|(_, other)| other.needs_tunnel)
        .filter_map(|(_, other)| {
            let address = other.address.filter(|address| !node.lists(*address))?;
            // Another name of the same address: who has it is in the set.
            let is_other = !node.addresses.contains(&address) && !node.admitted.contains(&address);
            is_other.then(|| Absent { node: other, address, sends: sends(other, node) })
        })
        .filter(|absent| absent.sends != Sends::Bare)
        .collect();
    absent.sort_by_key(|absent| (absent.sends == Sends::Unknown, absent.address));
    let first = absent.first()?;
    let names: Vec<String> = absent.iter().map(|absent| absent.node.words()).collect();
    let summary = match absent.len() {
        1 => format!("encapsulated packets of {} are dropped on {}", names.concat(), node.name),
        several => format!("encapsulated packets of {several} nodes are dropped on {}", node.name),
    };
    let held = node.hosts.as_ref().map_or(0, Vec::len);
    let own = node.own_blocks.first().map_or_else(|| "its blocks".to_owned(), ToString::to_string);
    let mut found = finding(Cause::IpipNotAllowed, SubjectKind::Peer, first.address.to_string(), summary)
        .with(
            EvidenceSource::Rule,
            format!("{}: cali40all-hosts-net holds {held} addresses, not {}", node.name, list(&names)),
        )
        .inferred();
    found = match first.sends {
        Sends::Encapsulated => {
            found.with(EvidenceSource::Route, format!("{}: {own} leads here through tunl0", first.node.name))
        }
        Sends::Bare | Sends::Unknown => found.with_severity(Severity::Warning),
    };
    Some(
        found
            .between(node, first.node)
            .confirm(&node.name, "ipset list cali40all-hosts-net; iptables -nvL cali-INPUT   # the rule for protocol 4")
            .confirm("kubectl", format!("kubectl get nodes -o yaml | grep -w {}   # projectcalico.org/IPv4Address: is it another one?", first.address))
            .cure("kubectl", felix_anew_on(&node.name)),
    )
}

/// How one node's packets for another's pods leave, by its own routes.
fn sends(from: &Node, to: &Node) -> Sends {
    let ways: Vec<bool> =
        to.own_blocks.iter().filter_map(|block| from.ways.get(block)).map(|way| way.tunnelled).collect();
    match ways.as_slice() {
        [] => Sends::Unknown,
        ways if ways.contains(&true) => Sends::Encapsulated,
        _ => Sends::Bare,
    }
}
