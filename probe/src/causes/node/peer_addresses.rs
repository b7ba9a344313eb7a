//! Addresses by which peers are known that no other node reaches them by.

use crate::{
    causes::{
        Cause,
        addresses::{is_public, of_any_machine},
        case::finding,
    },
    model::{Model, rows::is_bridge_name},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{BgpSession, PeerKind},
};

/// Why a session to another node of the mesh is down: the address is of a bridge, or a public one.
pub fn unreachable(model: &Model<'_>, session: &BgpSession) -> Option<Finding> {
    if session.established || session.kind != PeerKind::NodeToNodeMesh {
        return None;
    }
    on_own_bridge(model, session).or_else(|| like_a_bridge(model, session)).or_else(|| public(model, session))
}

fn wrong(model: &Model<'_>, session: &BgpSession, summary: String) -> Finding {
    let peer = session.peer;
    finding(Cause::NodeAddressWrong, SubjectKind::Address, peer.to_string(), summary)
        .with(EvidenceSource::Bird, format!("peer {peer} is {} since {}", session.state, session.since))
        .confirm("kubectl", format!("kubectl get nodes -o yaml | grep -e 'projectcalico.org/IPv4Address: {peer}' -e 'address: '"))
        .confirm(model.node_name(), "ip -brief -4 address   # on that node: which device has it?")
        .cure("kubectl", "kubectl -n kube-system set env daemonset/calico-node IP_AUTODETECTION_METHOD=can-reach=ADDRESS-OF-ANOTHER-NODE   # restarts calico-node on every node")
}

/// The peer's address is on a bridge here as well: both nodes have that bridge, and neither reaches the other by it.
fn on_own_bridge(model: &Model<'_>, session: &BgpSession) -> Option<Finding> {
    let local = model.sample.addresses.iter().find(|local| local.address == session.peer)?;
    let device = model.link(local.link)?;
    is_bridge_name(&device.name).then(|| {
        let summary = format!(
            "another node is registered as {}, the address of a bridge such as {} here",
            session.peer, device.name
        );
        wrong(model, session, summary)
            .with(EvidenceSource::Link, format!("{} has {} on this node too", device.name, session.peer))
    })
}

fn like_a_bridge(model: &Model<'_>, session: &BgpSession) -> Option<Finding> {
    let whose = of_any_machine(session.peer)?;
    let summary = format!("{} is {whose}: that node seems registered by it", session.peer);
    Some(wrong(model, session, summary).inferred().with_severity(Severity::Warning))
}

/// Nodes with addresses of both kinds mostly reach each other by the private ones alone.
fn public(model: &Model<'_>, session: &BgpSession) -> Option<Finding> {
    let peer = session.peer;
    let own = model.own_address();
    if !is_public(peer) || own.is_some_and(is_public) {
        return None;
    }
    let sessions = model.sample.bird.known().map_or(&[][..], |bird| bird.sessions.as_slice());
    if sessions.iter().any(|other| other.established && is_public(other.peer)) {
        return None;
    }
    let summary = format!(
        "{peer} is a public address: that node seems registered by one on which nodes do not reach each other"
    );
    let found = wrong(model, session, summary).inferred().with_severity(Severity::Warning);
    Some(match own {
        Some(own) => found.with(EvidenceSource::Link, format!("this node's own address is {own}")),
        None => found,
    })
}
