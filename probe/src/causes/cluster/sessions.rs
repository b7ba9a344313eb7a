//! BGP sessions that their two ends do not agree on.

use super::{Cluster, Node, node::Session};
use crate::{
    causes::{Cause, case::finding},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
};

pub fn judge(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let mut found = Vec::new();
    for (place, node) in &cluster.nodes {
        for (peer, session) in node.sessions.iter().flatten().filter(|(_, session)| !session.established) {
            let Some((_, other)) = cluster.at(*peer).filter(|(other, _)| other != place) else { continue };
            let theirs = node.address.and_then(|address| other.sessions.as_ref()?.get(&address));
            if let Some(theirs) = theirs.filter(|theirs| theirs.established) {
                found.push((*place, one_sided(node, session, other, theirs)));
            }
        }
    }
    found
}

/// Down here, and up there: packets get lost between the two, or one of them was started anew a moment ago.
fn one_sided(node: &Node, session: &Session, other: &Node, theirs: &Session) -> Finding {
    let address = other.address.map_or_else(|| other.name.clone(), |address| address.to_string());
    let words = |at: &Node, to: &Node, session: &Session| {
        format!("{}: the session to {} is {} since {}", at.name, to.words(), session.state, session.since)
    };
    let summary = format!("the session to {} is {} here and up there", other.words(), session.state);
    finding(Cause::BgpSessionDown, SubjectKind::Peer, address, summary)
        .inferred()
        .with_severity(Severity::Warning)
        .with(EvidenceSource::Bird, words(node, other, session))
        .with(EvidenceSource::Bird, words(other, node, theirs))
        .between(node, other)
        .confirm(&node.name, "birdcl show protocols all   # the last error; it should heal or fall within the hold time, 240 s")
        .confirm(&other.name, format!("ss -tn dst {} and port 179", node.address.map_or_else(|| node.name.clone(), |own| own.to_string())))
}
