//! Packets that this node sent where their pod's node is not, or in a way that does not lead there: routes of
//! other nodes' blocks that are wrong though nothing here drops by them.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, finding},
    route_table::{blocks, next_hops, ownership},
    routing::route_words,
};
use crate::{
    model::{
        Model,
        routing::{Decision, Flow, look_up},
    },
    report::document::{Certainty, Direction, EvidenceSource, Finding, Stage, SubjectKind},
    sample::Route,
};

/// What is wrong with the route by which packets of a direction left, where they came to nothing.
#[must_use]
pub fn by_route(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let destination = match direction {
        Direction::Forward => case.target,
        Direction::Return => case.sender.address()?,
    };
    let block = case.model.remote_block(destination)?;
    let finding = if block.tunnelled {
        to_owner_of_block(case.model, block.route, destination)
            .or_else(|| blocks::shared_out(case.model, block.route))
            .or_else(|| to_no_node(case, destination))
            .or_else(|| to_no_node_of_any_set(case, destination))
    } else {
        bare_beside_tunnelled(case.model, block.route)
    };
    let device = block.route.hops.first().and_then(|hop| hop.link).map(|link| case.link_name(link));
    finding.map(|finding| Located { finding, place: case.place(direction, Stage::Routing, device) })
}

/// The route of a whole block, for an address of it that the datastore says to be on another node than the next hop.
fn to_owner_of_block(model: &Model<'_>, route: &Route, address: Ipv4Addr) -> Option<Finding> {
    let (pod, node) = ownership::pod_elsewhere(model, address)?;
    let nodes = &model.sample.datastore.known()?.nodes;
    let lives_at = nodes.iter().find(|other| other.name == node)?.address?.addr();
    if route.hops.iter().any(|hop| hop.gateway == Some(lives_at)) {
        return None;
    }
    let summary = format!(
        "pod {}/{} lives on {node} with {address} of block {}, and packets for it go to that block's node",
        pod.namespace, pod.name, route.destination
    );
    let finding = finding(Cause::BorrowedAddress, SubjectKind::Address, address.to_string(), summary)
        .with(EvidenceSource::Route, format!("no /32 for {address}; {} covers it", route_words(model, route)))
        .with(EvidenceSource::File, format!("the datastore has the pod on {node}, at {lives_at}"))
        .confirm(node, format!("birdcl show route for {address} all   # does that node announce the /32?"));
    Some(finding)
}

fn to_no_node(case: &Case<'_>, destination: Ipv4Addr) -> Option<Finding> {
    let next_hop = case.model.tunnel_next_hop(destination)?;
    let block = format!("block {}", case.block_of(destination));
    let finding = next_hops::not_a_node(case.model, next_hop, &block)?;
    match refusal(case, next_hop) {
        Some(refusal) => Some(finding.with(EvidenceSource::Probe, refusal)),
        // The set alone may be older than the route.
        None => Some(finding).filter(|finding| finding.certainty == Certainty::Proven),
    }
}

/// Without Felix' set a router that says itself that it takes no IPIP is proof enough.
fn to_no_node_of_any_set(case: &Case<'_>, destination: Ipv4Addr) -> Option<Finding> {
    let next_hop = case.model.tunnel_next_hop(destination)?;
    let words = next_hops::router(case.model, next_hop)?;
    let refusal = refusal(case, next_hop)?;
    let block = case.block_of(destination);
    let summary = format!("the next hop {next_hop} of block {block} is a router, and no Calico node");
    let finding = finding(Cause::NextHopNotANode, SubjectKind::Peer, next_hop.to_string(), summary)
        .with(EvidenceSource::Route, format!("it is a router: {words}"))
        .with(EvidenceSource::Probe, refusal)
        .confirm(&case.node, "calicoctl node status   # which peer announces the block?");
    Some(finding)
}

/// What an address answered that nothing takes protocol 4 from (`net/ipv4/tunnel4.c`, `net/ipv4/ip_input.c`).
pub fn refusal(case: &Case<'_>, address: Ipv4Addr) -> Option<String> {
    let refuses = |icmp_type, code| icmp_type == 3 && matches!(code, 2 | 3);
    let mut errors = case.trail.errors.iter();
    let error = errors.find(|error| error.from == address && refuses(error.icmp_type, error.code))?;
    Some(format!("{address} answered the encapsulated probe with ICMP type 3 code {}", error.code))
}

/// Whether packets for an address leave bare where that is no rule for the nodes of its subnet.
pub(super) fn is_bare_beside_tunnelled(model: &Model<'_>, address: Ipv4Addr) -> bool {
    let block = model.remote_block(address).filter(|block| !block.tunnelled);
    block.is_some_and(|block| bare_beside_tunnelled(model, block.route).is_some())
}

/// A block's packets leave bare while those for other nodes of the same subnet are encapsulated. `CrossSubnet` spares
/// all nodes of a subnet alike.
fn bare_beside_tunnelled(model: &Model<'_>, route: &Route) -> Option<Finding> {
    let node = route.hops.first()?.gateway.filter(|gateway| model.is_node(*gateway))?;
    if !is_neighbour(model, node) {
        return None;
    }
    let mut others = model.remote_blocks().iter().filter(|other| other.tunnelled);
    let tunnelled = others.find(|other| {
        let mut next_hops = other.route.hops.iter().filter_map(|hop| hop.gateway);
        next_hops.any(|other| other != node && is_neighbour(model, other))
    })?;
    let block = route.destination;
    let summary =
        format!("block {block} is sent to node {node} without encapsulation, others of its subnet are not");
    let finding = finding(Cause::EncapsulationMissing, SubjectKind::Route, block.to_string(), summary)
        .inferred()
        .with(EvidenceSource::Route, route_words(model, route))
        .with(EvidenceSource::Route, route_words(model, tunnelled.route))
        .confirm("kubectl", "kubectl get ippools.crd.projectcalico.org -o yaml   # ipipMode")
        .confirm(model.node_name(), "ip link show tunl0   # BIRD writes bare routes where it does not see tunl0")
        .cure(
            "kubectl",
            format!(
                "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}   # BIRD writes its routes anew",
                model.node_name()
            ),
        );
    Some(finding)
}

/// Whether an address is reached without a router.
fn is_neighbour(model: &Model<'_>, address: Ipv4Addr) -> bool {
    let flow = Flow { source: None, destination: address, input_link: None, mark: 0, tos: 0 };
    match look_up(model, &flow) {
        Decision::Route { hops, .. } => !hops.is_empty() && hops.iter().all(|hop| hop.gateway.is_none()),
        _ => false,
    }
}
