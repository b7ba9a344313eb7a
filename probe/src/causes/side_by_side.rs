//! Several nodes of one cluster next to each other: what one says of another that the other does not bear out. Each
//! was looked at on its own, so what a moment may explain is inferred.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{Cause, case::finding, routing::route_words};
use crate::{
    model::{LocalPod, Model},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Part, Route},
};

/// More nodes than people paste; each is held against each other.
const MOST_NODES: usize = 200;

/// Of one kind between two nodes, as many as a person reads.
const MOST_ALIKE: usize = 20;

/// A node, with what the others are held against.
struct Node<'a> {
    model: &'a Model<'a>,
    own_blocks: BTreeSet<Ipv4Net>,
    /// Destinations of all rows but default routes.
    destinations: HashSet<Ipv4Net>,
    /// The one node that the tunnel sends a block to, with the row that says so.
    owners: HashMap<Ipv4Net, (Ipv4Addr, &'a Route)>,
}

impl<'a> Node<'a> {
    fn of(model: &'a Model<'a>) -> Self {
        let routes = model.sample.routes.iter().map(|route| route.destination);
        let tunnelled = model.remote_blocks().iter().filter(|block| block.tunnelled).map(|block| block.route);
        Self {
            model,
            own_blocks: model.own_blocks().iter().map(|block| block.destination).collect(),
            destinations: routes.filter(|destination| destination.prefix_len() > 0).collect(),
            owners: tunnelled.filter_map(|route| Some((route.destination, (owner(route)?, route)))).collect(),
        }
    }

    fn name(&self) -> String {
        self.model.node_name()
    }

    /// Whether a row leads to a network, or to one around it.
    fn covers(&self, network: Ipv4Net) -> bool {
        std::iter::successors(Some(network), Ipv4Net::supernet)
            .any(|around| self.destinations.contains(&around))
    }

    /// Looks at one place are no different nodes, and neither are two with one address or one block.
    fn is_other_than(&self, other: &Self) -> bool {
        let differ = match (self.model.own_address(), other.model.own_address()) {
            (Some(one), Some(other)) => one != other,
            _ => true,
        };
        let place = |node: &Self| node.model.sample.node.pasted_from.clone();
        let is_known = !self.own_blocks.is_empty() || !self.owners.is_empty();
        differ
            && is_known
            && (place(self) != place(other) || place(self).is_empty())
            && self.own_blocks.is_disjoint(&other.own_blocks)
    }
}

fn owner(route: &Route) -> Option<Ipv4Addr> {
    match route.hops.as_slice() {
        [hop] => hop.gateway,
        _ => None,
    }
}

/// What the others show to be wrong with each node, in the nodes' order.
pub fn judge(models: &[Model<'_>]) -> Vec<Vec<Finding>> {
    let nodes: Vec<Option<Node<'_>>> = models
        .iter()
        .enumerate()
        .map(|(place, model)| (place < MOST_NODES && !model.is_inside_pod()).then(|| Node::of(model)))
        .collect();
    nodes.iter().map(|node| node.as_ref().map(|node| against(node, &nodes)).unwrap_or_default()).collect()
}

fn against(node: &Node<'_>, all: &[Option<Node<'_>>]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for other in all.iter().flatten().filter(|other| !std::ptr::eq(other.model, node.model)) {
        findings.extend(next_hops_that_are_pods(node.model, other.model));
        if node.is_other_than(other) {
            findings.extend(same_tunnel_address(node.model, other.model));
            findings.extend(borrowed(node, other));
            findings.extend(unrouted(node, other));
            findings.extend(elsewhere(node, other));
        }
    }
    let mut seen = BTreeSet::new();
    findings.retain(|finding| seen.insert((finding.cause, finding.subject.value.clone())));
    findings
}

/// The tunnel's next hop is an address of a pod, whichever node it is on: pods decapsulate nothing.
fn next_hops_that_are_pods(model: &Model<'_>, other: &Model<'_>) -> Vec<Finding> {
    let hops = model.remote_blocks().iter().filter(|block| block.tunnelled);
    hops.filter_map(|block| {
        let next_hop = block.route.hops.iter().find_map(|hop| hop.gateway)?;
        let pod: LocalPod<'_> = other.pod(next_hop).filter(|_| !model.is_local_pod(next_hop))?;
        let destination = block.route.destination;
        let summary =
            format!("the next hop {next_hop} of block {destination} is a pod, which decapsulates nothing");
        Some(
            finding(Cause::TunnelLoop, SubjectKind::Peer, next_hop.to_string(), summary)
                .with(EvidenceSource::Route, route_words(model, block.route))
                .with(
                    EvidenceSource::Route,
                    format!("{}: {}", other.node_name(), route_words(other, pod.route)),
                )
                .confirm(model.node_name(), format!("ip route get {next_hop}")),
        )
    })
    .collect()
}

/// Two tunnels with one address: what the host of one sends is answered to the other.
fn same_tunnel_address(model: &Model<'_>, other: &Model<'_>) -> Option<Finding> {
    let of_tunnel = |model: &Model<'_>| -> Vec<Ipv4Addr> {
        let tunnel = model.tunnel().map(|tunnel| tunnel.index);
        let own = model.sample.addresses.iter().filter(|own| Some(own.link) == tunnel);
        own.map(|own| own.address).collect()
    };
    let theirs = of_tunnel(other);
    let address = of_tunnel(model).into_iter().find(|address| theirs.contains(address))?;
    let summary = format!("tunl0 has {address} here and on {}", other.node_name());
    Some(
        finding(Cause::AddressConflict, SubjectKind::Address, address.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Link, format!("tunl0 has {address}"))
            .with(EvidenceSource::Link, format!("{}: tunl0 has {address}", other.node_name()))
            .confirm("kubectl", "kubectl get nodes -o yaml | grep -e 'name: ' -e IPv4IPIPTunnelAddr"),
    )
}

/// Causes on a node that keep its pods' gateway from answering.
const SILENCING: [Cause; 3] = [Cause::NoRouteForGatewayArp, Cause::ProxyArpOff, Cause::IpForwardOff];

/// Whether a pod's silent gateway follows from what was found on a node shown with it.
pub fn is_consequence(of_pod: &Finding, on_nodes: &[Finding]) -> bool {
    of_pod.cause == Cause::ProxyArpOff && on_nodes.iter().any(|finding| SILENCING.contains(&finding.cause))
}

/// The other node has pods with addresses of this node's block, and no route leads there from here.
fn borrowed(node: &Node<'_>, other: &Node<'_>) -> Option<Finding> {
    let own_block = |address: Ipv4Addr| {
        let around = std::iter::successors(Some(Ipv4Net::from(address)), Ipv4Net::supernet);
        around
            .take_while(|network| network.prefix_len() > 8)
            .find(|network| node.own_blocks.contains(network))
    };
    let is_lost = |pod: &&LocalPod<'_>| {
        own_block(pod.address).is_some() && !node.destinations.contains(&Ipv4Net::from(pod.address))
    };
    let pod = other.model.pods().iter().find(is_lost)?;
    let block = own_block(pod.address)?;
    let summary = format!(
        "a pod of {} has {} of this node's block {block}, and no route leads there",
        other.name(),
        pod.address
    );
    Some(
        finding(Cause::BorrowedAddress, SubjectKind::Address, pod.address.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Route, format!("no /32 for {}; blackhole {block} covers it", pod.address))
            .with(EvidenceSource::Route, format!("{}: {}", other.name(), route_words(other.model, pod.route)))
            .confirm(
                other.name(),
                format!("birdcl show route for {} all   # does it announce the /32?", pod.address),
            ),
    )
}

/// The other node's own blocks to which no route leads from here, though routes to others are shown.
fn unrouted(node: &Node<'_>, other: &Node<'_>) -> Vec<Finding> {
    let model = node.model;
    let shows_others = !model.remote_blocks().is_empty() || model.sample.holds(Part::Routes);
    let lost = other.own_blocks.iter().filter(|block| shows_others && !node.covers(**block));
    lost.take(MOST_ALIKE)
        .map(|block| {
            let summary = format!("no route leads to block {block} of {}", other.name());
            finding(Cause::BlockRouteMissing, SubjectKind::Block, block.to_string(), summary)
                .inferred()
                .with(EvidenceSource::Route, format!("{}: blackhole {block}, its own block", other.name()))
                .with(EvidenceSource::Route, "no row here covers it but the default route")
                .confirm(node.name(), "calicoctl node status   # is the session to that node up?")
        })
        .collect()
}

/// Both lead to one block, by different nodes.
fn elsewhere(node: &Node<'_>, other: &Node<'_>) -> Vec<Finding> {
    let mut conflicts: Vec<Finding> = Vec::new();
    for (block, (here, route)) in &node.owners {
        let Some((there, theirs)) = other.owners.get(block).filter(|(there, _)| there != here) else {
            continue;
        };
        let summary = format!("block {block} leads to {here} from here, to {there} from {}", other.name());
        conflicts.push(
            finding(Cause::BlockOwnerConflict, SubjectKind::Block, block.to_string(), summary)
                .inferred()
                .with_severity(Severity::Warning)
                .with(EvidenceSource::Route, route_words(node.model, route))
                .with(
                    EvidenceSource::Route,
                    format!("{}: {}", other.name(), route_words(other.model, theirs)),
                )
                .confirm(
                    "kubectl",
                    format!(
                        "kubectl get blockaffinities.crd.projectcalico.org -o wide | grep {}",
                        block.addr()
                    ),
                ),
        );
    }
    conflicts.sort_by(|one, other| one.subject.value.cmp(&other.subject.value));
    conflicts.truncate(MOST_ALIKE);
    conflicts
}
