//! The inside of a pod, where that is what was pasted: its own routes, and whether its node answers for its gateway.

use std::net::Ipv4Addr;

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding},
    model::Model,
    report::document::{EvidenceSource, Finding, SubjectKind},
    sample::NeighbourState,
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Pod);
    if model.sample.routes.is_empty() {
        review.found([without_routes(model)]);
    }
    review.found(unanswered(model));
    if review.findings.is_empty() {
        review.pass(format!("a pod's own routes lead to {GATEWAY}, as they must"));
    }
    review
}

/// Nothing restores a pod's routes but a new start: the CNI plug-in wrote them once.
fn without_routes(model: &Model<'_>) -> Finding {
    let summary = "there is no route at all: a pod without its own answers nobody";
    finding(Cause::PodNoAnswer, SubjectKind::Pod, model.node_name(), summary)
        .inferred()
        .with(EvidenceSource::Route, "ip route printed nothing")
        .confirm(model.node_name(), "ip address; ip route")
        .cure("kubectl", "kubectl delete pod NAME   # the CNI plug-in writes a pod's routes once, when it starts")
        .stopgap(
            model.node_name(),
            format!("ip route add {GATEWAY} dev eth0 scope link; ip route add default via {GATEWAY}   # in the pod's network namespace"),
        )
}

/// The reason is on the node: several faults silence it alike.
fn unanswered(model: &Model<'_>) -> Option<Finding> {
    let entry = model.sample.neighbours.iter().find(|entry| entry.address == GATEWAY)?;
    if !matches!(entry.state, NeighbourState::Failed | NeighbourState::Incomplete) {
        return None;
    }
    let summary = format!(
        "the pod's node does not answer ARP for {GATEWAY}: proxy ARP or forwarding is off there, or it has no route for it"
    );
    let state = format!("{:?}", entry.state).to_lowercase();
    Some(
        finding(Cause::ProxyArpOff, SubjectKind::Address, GATEWAY.to_string(), summary)
            .inferred()
            .with(EvidenceSource::Neighbour, format!("{GATEWAY} is {state} in the pod"))
            .confirm("the pod's node", format!("ip route get {GATEWAY}   # none: no-route-for-gateway-arp"))
            .confirm(
                "the pod's node",
                "sysctl -a --pattern 'net.ipv4.(ip_forward|conf.cali.*(forwarding|proxy_arp))'",
            ),
    )
}
