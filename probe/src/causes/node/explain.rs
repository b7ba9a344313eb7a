//! What follows from what: a consequence is told by its root's finding, and a fault of the data path has the control
//! plane's reason beneath it.

use std::net::Ipv4Addr;

use super::Review;
use crate::{
    causes::Cause::{
        self, BgpSessionDown, BirdNotRunning, BlockRouteMissing, CalicoLogErrors, CalicoNotRunning,
        EndpointNotProgrammed, FelixNotReady, NodeAddressWrong, PodRouteMissing, RouteNotInstalled,
        StaleTunnelRoute, TunnelDown, TunnelMissing,
    },
    model::{Model, peers::lost_blocks},
    report::document::{Evidence, EvidenceSource, Finding, FixKind, Severity},
};

/// As many consequences as a person reads.
const SHOWN: usize = 3;

/// Leaves one finding for each thing that a person would fix.
pub fn fold(model: &Model<'_>, reviews: &mut [Review]) {
    let before: Vec<Finding> = reviews.iter().flat_map(|review| review.findings.clone()).collect();
    let roots: Vec<Finding> =
        before.iter().filter(|finding| root_of(finding, &before).is_none()).cloned().collect();
    let reasons: Vec<&Finding> =
        roots.iter().filter(|reason| roots.iter().any(|fault| explains(model, reason, fault))).collect();
    for review in &mut *reviews {
        review.findings.retain(|finding| {
            root_of(finding, &before).is_none() && !reasons.iter().any(|reason| same(reason, finding))
        });
        for finding in &mut review.findings {
            let consequences: Vec<&Finding> =
                before.iter().filter(|other| follows(finding.cause, other.cause)).collect();
            tell(finding, &consequences);
            explain(model, finding, &roots);
        }
    }
    drop_told_errors(reviews);
}

/// Adds what follows from a root to its evidence, with what the logs say of it.
fn tell(root: &mut Finding, consequences: &[&Finding]) {
    let line = |text: String| Evidence { source: EvidenceSource::Bird, text };
    root.evidence
        .extend(consequences.iter().take(SHOWN).map(|finding| line(format!("so: {}", finding.summary))));
    if consequences.len() > SHOWN {
        root.evidence.push(line(format!("so: {} more like these", consequences.len() - SHOWN)));
    }
    for logged in consequences.iter().flat_map(|finding| &finding.evidence) {
        if logged.source == EvidenceSource::File && !root.evidence.contains(logged) {
            root.evidence.push(logged.clone());
        }
    }
}

/// Errors of a log that other findings have among their evidence are none of their own.
fn drop_told_errors(reviews: &mut [Review]) {
    let told: Vec<Evidence> = reviews
        .iter()
        .flat_map(|review| &review.findings)
        .filter(|finding| finding.cause != CalicoLogErrors)
        .flat_map(|finding| {
            finding.evidence.iter().chain(finding.explained_by.iter().flat_map(|reason| &reason.evidence))
        })
        .cloned()
        .collect();
    for review in reviews {
        review.findings.retain(|finding| {
            finding.cause != CalicoLogErrors || !finding.evidence.iter().all(|line| told.contains(line))
        });
    }
}

/// Nests in a fault of the data path what the control plane says of it.
pub fn explain(model: &Model<'_>, fault: &mut Finding, reasons: &[Finding]) {
    let explaining = reasons.iter().filter(|reason| explains(model, reason, fault)).cloned();
    let explaining: Vec<Finding> = explaining.map(|reason| as_far_as_known(model, reason)).collect();
    if explaining.iter().any(|reason| reason.cause == BgpSessionDown) {
        // What ails the session is not mended where the route is missing.
        fault.fix.retain(|fix| fix.kind != FixKind::Cure);
    }
    fault.explained_by.extend(explaining);
}

/// That a session is down is proven; that this costs the block is not, where nobody says whose the block is.
fn as_far_as_known(model: &Model<'_>, reason: Finding) -> Finding {
    let peer = reason.subject.value.parse().ok().filter(|_| reason.cause == BgpSessionDown);
    match peer.map(|peer| lost_blocks(model, peer)) {
        Some(None) => reason.inferred().with(
            EvidenceSource::Bird,
            "whose the block is only the datastore knows (--facts): of this peer no block is routed any more",
        ),
        _ => reason,
    }
}

fn root_of<'a>(finding: &Finding, all: &'a [Finding]) -> Option<&'a Finding> {
    all.iter().find(|root| follows(root.cause, finding.cause))
}

fn same(one: &Finding, other: &Finding) -> bool {
    one.cause == other.cause && one.subject == other.subject
}

/// Whether the second cannot be otherwise where the first is.
fn follows(root: Cause, consequence: Cause) -> bool {
    matches!(
        (root, consequence),
        (CalicoNotRunning, BirdNotRunning | FelixNotReady | BgpSessionDown)
            | (NodeAddressWrong, BgpSessionDown)
            // The kernel takes a device's routes with it, and BIRD's attempts end with "Network is down".
            | (TunnelDown | TunnelMissing, RouteNotInstalled | BlockRouteMissing)
    )
}

/// Whether the first is why the second happened, as Calico works.
fn explains(model: &Model<'_>, reason: &Finding, fault: &Finding) -> bool {
    match (reason.cause, fault.cause) {
        (BgpSessionDown, BlockRouteMissing) => costs(model, reason, fault),
        (BgpSessionDown, StaleTunnelRoute) | (RouteNotInstalled, BlockRouteMissing) => {
            tells_of(fault, &reason.subject.value)
        }
        (BirdNotRunning | CalicoNotRunning, BlockRouteMissing | StaleTunnelRoute)
        | (CalicoNotRunning | FelixNotReady, PodRouteMissing | EndpointNotProgrammed) => true,
        _ => false,
    }
}

/// Whether a session's peer has the block that is missing. Where nobody says whose the block is, it can be any of
/// those that are down and have no block left here.
fn costs(model: &Model<'_>, session: &Finding, fault: &Finding) -> bool {
    let Ok(peer) = session.subject.value.parse::<Ipv4Addr>() else { return false };
    match lost_blocks(model, peer) {
        Some(blocks) => blocks.iter().any(|block| tells_of(fault, &block.to_string())),
        None => session.severity == Severity::Critical,
    }
}

/// Whether a finding's subject or evidence is an address or a network.
fn tells_of(finding: &Finding, wanted: &str) -> bool {
    let is_of_address = |c: char| c.is_ascii_digit() || c == '.' || c == '/';
    let tells = |text: &str| text.split(|c| !is_of_address(c)).any(|word| word == wanted);
    tells(&finding.subject.value) || finding.evidence.iter().any(|evidence| tells(&evidence.text))
}
