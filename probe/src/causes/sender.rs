//! Probes that never became packets on this node: refused by the sender's own kernel, or stuck in the pod.

use super::{
    Cause,
    case::{Case, Located, Sender, finding},
    gateway, pod, routing,
    verdict::Ending,
};
use crate::{
    observation::ProbeOutcome,
    report::document::{Direction, EvidenceSource, Finding, Stage, SubjectKind},
};

/// The error of the send call, where every probe met one. For this node's own packets a blackhole, a missing
/// route and a dropping OUTPUT chain are errors, not drops.
pub fn refused(case: &Case<'_>) -> Option<Located> {
    let error = first_error(case)?;
    match &case.sender {
        Sender::Host { .. } => {
            let located = routing::refused(case, Direction::Forward, None)?;
            let text = format!("sending from this node failed with {error}");
            Some(Located { finding: located.finding.with(EvidenceSource::Probe, text), ..located })
        }
        Sender::Pod { .. } => Some(pod_without_route(case, &error)),
        Sender::Remote { .. } => None,
    }
}

fn first_error(case: &Case<'_>) -> Option<String> {
    let mut errors = case.probes().map(|ProbeOutcome { send_error, .. }| send_error.as_deref());
    let first = errors.next()??;
    errors.all(|error| error.is_some()).then(|| first.to_owned())
}

fn pod_without_route(case: &Case<'_>, error: &str) -> Located {
    let device = case.sender.link().map(|link| case.link_name(link));
    let words = case.sender.address().map_or_else(String::new, |address| pod::pod_words(case.model, address));
    let finding: Finding = finding(
        Cause::PodLinkDown,
        SubjectKind::Pod,
        words.clone(),
        format!("pod {words} cannot send: {error}, its own interface or routes are gone"),
    )
    .with(EvidenceSource::Probe, format!("sending inside the pod failed with {error}"))
    .confirm(
        &case.node,
        "ip netns exec POD ip address; ip netns exec POD ip route   # default via 169.254.1.1 dev eth0",
    );
    Located { finding, place: case.place(Direction::Forward, Stage::Pod, device) }
}

/// Sent inside the pod, never seen on its `cali*`.
pub(super) fn never_left(case: &Case<'_>) -> Ending {
    if let Some(located) = pod::sender_link_down(case) {
        return Ending::Located(located);
    }
    let device = case.sender.link().and_then(|link| case.link(link));
    if let Some(located) = device.and_then(|device| gateway::silent(case, Direction::Forward, device)) {
        return Ending::Located(located);
    }
    Ending::Unknown {
        place: Some(case.place(Direction::Forward, Stage::PodLink, device.map(|device| device.name.clone()))),
        seen: "the pod sent it and its cali* did not get it: its ARP for 169.254.1.1 may be unanswered"
            .to_owned(),
    }
}
