//! What only probes of a port tell: a refusal is an answer, and a port may be silent where echo requests pass.

use super::{
    Cause,
    case::{Case, Located, finding},
    pod::pod_words,
    routing::{self, sender_words},
    trail::IcmpError,
    verdict::Ending,
};
use crate::{
    observation::{PacketKind, Series, Traffic},
    report::document::{Direction, EvidenceSource, Finding, Place, Point, Stage, SubjectKind},
};

/// Judges probes that were answered by a refusal, none of which was lost on this node.
pub fn refused(case: &Case<'_>) -> Located {
    match case.trail.errors.iter().find(|error| error.from != case.target && error.icmp_type == 3) {
        Some(error) => rejected(case, *error),
        None => rejected_in_its_name(case).unwrap_or_else(|| refused_by_pod(case)),
    }
}

/// A refusal from a pod of this node, to which nothing was handed: only the node itself can have sent it.
fn rejected_in_its_name(case: &Case<'_>) -> Option<Located> {
    let pod = case.link(case.model.pod(case.target)?.link)?;
    let arrival = case.link(routing::flow(case, Direction::Forward, 0)?.input_link?)?;
    if case.trail.count(Direction::Forward, Point::ToPod) > 0 {
        return None;
    }
    let words = pod_words(case.model, case.target);
    let finding = finding(
        Cause::NetfilterDrop,
        SubjectKind::Address,
        case.target.to_string(),
        format!("a rule of {} rejects {} in the name of {words}", case.node, case.traffic),
    )
    .inferred()
    .with(
        EvidenceSource::Probe,
        format!(
            "they came in by {}, none left by {}, and a refusal came back all the same",
            arrival.name, pod.name
        ),
    )
    .confirm(&case.node, "iptables-save -c | grep -w REJECT; nft list ruleset | grep -w reject");
    let place = case.place(Direction::Forward, Stage::Netfilter, Some(arrival.name.clone()));
    Some(Located { finding, place })
}

/// The pod's own stack refused. Seen to come out of the pod it is proven; from another node a firewall's reset looks
/// the same.
fn refused_by_pod(case: &Case<'_>) -> Located {
    let local = case.model.pod(case.target).and_then(|pod| case.link(pod.link));
    let came_out = local.is_some_and(|device| {
        case.observation.sightings.iter().any(|sighting| {
            sighting.link == device.index
                && !sighting.outgoing
                && matches!(sighting.packet.kind, PacketKind::TcpReset | PacketKind::IcmpError { .. })
        })
    });
    let how = match case.traffic {
        Traffic::Udp(_) => "ICMP port unreachable",
        Traffic::Tcp(_) | Traffic::Echo => "a reset",
    };
    let words = pod_words(case.model, case.target);
    let mut found = finding(
        Cause::PodRefused,
        SubjectKind::Pod,
        &words,
        format!("delivered, and {words} refused it: nothing serves {} there", case.traffic),
    )
    .with(EvidenceSource::Probe, format!("{how} came back from {}", case.target));
    if !came_out {
        found = found
            .inferred()
            .with(EvidenceSource::Probe, "a firewall that rejects in the pod's name looks the same");
    }
    let namespace = case.model.pod_name(case.target).unwrap_or_else(|| "NAMESPACE/POD".to_owned());
    let (namespace, pod) = namespace.split_once('/').unwrap_or(("NAMESPACE", "POD"));
    let found = found.confirm("kubectl", format!("kubectl -n {namespace} exec {pod} -- ss -lntu")).confirm(
        "kubectl",
        format!("kubectl -n {namespace} describe pod {pod}   # is it ready, on which ports?"),
    );
    let place = match local {
        Some(device) => case.place(Direction::Forward, Stage::Pod, Some(device.name.clone())),
        None => {
            Place { node: beyond(case), direction: Some(Direction::Forward), stage: Stage::Pod, device: None }
        }
    };
    Located { finding: found, place }
}

/// Something on the way rejects it: only the target itself could say so for its pod.
fn rejected(case: &Case<'_>, error: IcmpError) -> Located {
    let here = case.model.is_local(error.from);
    let node = if here { case.node.clone() } else { error.from.to_string() };
    let finding = rejection(case, &node, error);
    let place = Place { node, direction: Some(Direction::Forward), stage: Stage::Netfilter, device: None };
    Located { finding, place }
}

fn rejection(case: &Case<'_>, node: &str, error: IcmpError) -> Finding {
    finding(
        Cause::NetfilterDrop,
        SubjectKind::Address,
        error.from.to_string(),
        format!("a rule of {node} rejects {} from {}", case.traffic, sender_words(&case.sender)),
    )
    .inferred()
    .with(
        EvidenceSource::Probe,
        format!(
            "{} sent ICMP type {} code {} for it, and it is not the target",
            error.from, error.icmp_type, error.code
        ),
    )
    .confirm(node, "iptables-save -c | grep -w REJECT; nft list ruleset | grep -w reject")
}

/// The next node on the way.
fn beyond(case: &Case<'_>) -> String {
    let peer = case.model.tunnel_next_hop(case.target).or_else(|| case.model.bare_next_hop(case.target));
    peer.map_or_else(|| "the other node".to_owned(), |peer| peer.to_string())
}

/// A port that is silent beyond this node, where echo requests of the same sender are answered: the way is good, and
/// what is left lies at the other end.
pub(super) fn silent_beyond(case: &Case<'_>) -> Option<Ending> {
    if case.traffic == Traffic::Echo {
        return None;
    }
    let echo = case.of(Series::Echo)?;
    let sent = echo.probes().count();
    (sent > 0 && echo.lost() == 0).then(|| Ending::Unknown {
        place: Some(Place {
            node: beyond(case),
            direction: None,
            stage: Stage::Underlay,
            device: None,
        }),
        seen: format!(
            "{sent} of {sent} echo requests were answered, and {} was not: beyond this node a policy or a firewall \
             drops it, its checksum breaks, or {}",
            case.traffic,
            match case.traffic {
                Traffic::Udp(_) => "the server has no answer for a datagram that it does not understand",
                Traffic::Tcp(_) | Traffic::Echo => "the pod is silent",
            }
        ),
    })
}
