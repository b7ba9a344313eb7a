//! TCP and UDP packets whose checksum breaks on the way: a device that should finish it does so wrongly, or not at
//! all. Whoever checks it drops the packet without a word; echo requests pass.

use super::{
    Cause,
    case::{Case, Located, finding},
    drop_kind::DropKind,
    routing::drop_evidence,
    trail::Step,
};
use crate::{
    observation::{Checksum, DropSighting},
    report::document::{Direction, EvidenceSource, Finding, Point, Stage, SubjectKind},
    sample::{PodInterface, Sample},
};

/// Judges packets that were lost with a broken checksum.
pub fn broken(case: &Case<'_>, direction: Direction) -> Option<Located> {
    let steps: Vec<&Step<'_>> = case.trail.steps.iter().filter(|step| step.direction == direction).collect();
    let bad = steps.iter().position(|step| has(step, Checksum::Bad));
    let refusing = refusing_drop(case, direction);
    let counted = counted_in_pod(case, direction);
    // A sum that was left to the device and not finished shows only in what whoever checks it says.
    let unfinished = steps.iter().any(|step| has(step, Checksum::Unfinished));
    if bad.is_none() && !(unfinished && (refusing.is_some() || counted.is_some())) {
        return None;
    }
    let place = bad.and_then(|bad| steps.get(bad)).or(steps.last())?;
    let device = case.link_name(place.link);
    let broke_here = bad.and_then(|bad| steps.get(bad.checked_sub(1)?)).map(|step| case.link_name(step.link));
    let summary = match &broke_here {
        Some(before) => format!(
            "the checksum of {} breaks on this node, between {before} and {device}",
            case.traffic_words()
        ),
        None => format!("{} arrives at {device} with a broken checksum", case.traffic_words()),
    };
    let found = finding(Cause::ChecksumOffload, SubjectKind::Interface, &device, summary);
    let found = evidence(case, found, &steps, refusing, counted);
    let culprit = if broke_here.is_some() { case.node.clone() } else { "the sending node".to_owned() };
    let found = found
        .confirm(&culprit, "ethtool -k tunl0 | grep checksum; tcpdump -vvni tunl0 tcp or udp   # incorrect?")
        .cure(&culprit, "ethtool -K UPLINK tx off; ethtool -K tunl0 tx off   # until the driver, or a kernel before 5.7, is replaced");
    Some(Located { finding: found, place: lost_at(case, direction, place, refusing, &device) })
}

fn has(step: &Step<'_>, checksum: Checksum) -> bool {
    step.seen.iter().any(|sighting| sighting.checksum == Some(checksum))
}

/// A drop by who checks sums: the pod's stack, or conntrack's rules for what it calls invalid.
fn refusing_drop<'a>(case: &'a Case<'_>, direction: Direction) -> Option<&'a DropSighting> {
    let drops = case.trail.drops.iter().filter(|dropped| dropped.direction == direction);
    drops.map(|dropped| dropped.drop).find(|drop| DropKind::of(drop) == DropKind::Checksum)
}

/// How much the pod's own counters of broken checksums rose, where this direction ends in a pod of this node.
fn counted_in_pod(case: &Case<'_>, direction: Direction) -> Option<u64> {
    let link = match direction {
        Direction::Forward => case.model.pod(case.target)?.link,
        Direction::Return => case.sender.link()?,
    };
    let count = |sample: &Sample| {
        let of_pod = |interface: &&PodInterface| interface.link == link;
        sample.pod_interfaces.iter().find(of_pod)?.checksum_errors
    };
    count(case.after)?.checked_sub(count(case.before)?).filter(|rise| *rise > 0)
}

fn evidence(
    case: &Case<'_>,
    mut found: Finding,
    steps: &[&Step<'_>],
    refusing: Option<&DropSighting>,
    counted: Option<u64>,
) -> Finding {
    for step in steps {
        let words = [
            (Checksum::Good, "good"),
            (Checksum::Unfinished, "left to the device"),
            (Checksum::Bad, "broken"),
        ];
        for (checksum, word) in words.into_iter().filter(|(checksum, _)| has(step, *checksum)) {
            let count = step.seen.iter().filter(|sighting| sighting.checksum == Some(checksum)).count();
            let text = format!("{count} at {} with a checksum that is {word}", case.link_name(step.link));
            found = found.with(EvidenceSource::Probe, text);
        }
    }
    if let Some(rise) = counted {
        found = found.with(EvidenceSource::Counter, format!("InCsumErrors in the pod rose by {rise}"));
    }
    found.with_all(drop_evidence(case, refusing))
}

fn lost_at(
    case: &Case<'_>,
    direction: Direction,
    last: &Step<'_>,
    refusing: Option<&DropSighting>,
    device: &str,
) -> crate::report::document::Place {
    let here =
        case.trail.drop_here(direction).filter(|drop| matches!(DropKind::of(drop), DropKind::Netfilter(_)));
    let to_pod = case.trail.at(direction, Point::ToPod).next();
    match (here, to_pod) {
        (Some(drop), None) => {
            let link = drop.link.map(|link| case.link_name(link));
            case.place(direction, Stage::Netfilter, link)
        }
        (_, Some(step)) => case.place(direction, Stage::Pod, Some(case.link_name(step.link))),
        (None, None) if refusing.is_some() || last.point == Point::FromTunnel => {
            case.place(direction, Stage::Routing, Some(device.to_owned()))
        }
        (None, None) => case.place(direction, Stage::Underlay, Some(device.to_owned())),
    }
}
