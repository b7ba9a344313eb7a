//! Paths on which small packets pass and large ones vanish, though nobody who sends them is told. Where a sender is
//! told, and what it was told to fit does fit, path MTU discovery works and nothing is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    Cause,
    case::{Case, Located, Sender, finding},
    drop_kind::DropKind,
    neighbour::outer_flow,
    path::first_missing,
    routing::{self, drop_evidence},
    trail::DeviceRole,
};
use crate::{
    model::routing::{Decision, look_up},
    observation::{DropSighting, ProbeOutcome, Series},
    report::document::{Direction, EvidenceSource, Finding, NotSeen, Place, Point, Stage, SubjectKind},
    sample::Link,
};

/// The outer IPv4 header of IPIP.
const OUTER_HEADER: u32 = 20;
/// So many large probes must be lost before their size is blamed rather than chance.
const LOSSES: usize = 3;

/// What the probes of many sizes come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Bytes of the largest packet that passed, and of the smallest that did not.
    passed: u16,
    lost: u16,
    /// The least MTU that the sender was told.
    told: Option<u16>,
}

/// Judges a path that small probes pass.
pub fn black_hole(case: &Case<'_>) -> Option<Located> {
    let sizes = case.of(Series::Sizes)?;
    let cut = cut(sizes.probes())?;
    let lost: BTreeSet<u16> = sizes
        .probes()
        .filter(|probe| probe.size.is_some_and(|size| size >= cut.lost))
        .map(|probe| probe.sequence)
        .collect();
    let (place, drop) = lost_at(&sizes, &lost, cut.lost);
    let node = place.node.clone();
    let mut found = finding(
        Cause::MtuBlackHole,
        SubjectKind::Address,
        case.target.to_string(),
        format!("packets of {} bytes pass, those of {} vanish", cut.passed, cut.lost),
    )
    .with(
        EvidenceSource::Probe,
        format!(
            "the largest that passed has {} bytes, the smallest that did not {}; all with DF",
            cut.passed, cut.lost
        ),
    );
    if let Some(told) = cut.told {
        let text = format!("the sender was told that {told} bytes fit, and they do not");
        found = found.with(EvidenceSource::Probe, text);
    } else {
        found = found.with(EvidenceSource::Probe, "the sender was not told: no ICMP 3/4 came for them");
    }
    found = with_mtus(case, found).with_all(drop_evidence(&sizes, drop));
    if let Some(rise) = case.counter_rise("Ip.FragFails").filter(|rise| *rise > 0) {
        found = found.with(EvidenceSource::Counter, format!("Ip.FragFails rose by {rise}"));
    }
    if node != case.node {
        found = found.confirm(&node, "ip link show; ip route get THIS-NODE   # which MTU is smaller there?");
    }
    let found = found
        .confirm(&case.node, format!("ping -M do -s {} {}", cut.lost.saturating_sub(28), case.target))
        .cure(
            "kubectl",
            format!(
                "kubectl patch felixconfigurations.crd.projectcalico.org default --type merge -p '{{\"spec\":{{\"ipipMTU\":{}}}}}'   # new pods take it; or let ICMP 3/4 pass",
                cut.passed
            ),
        );
    Some(Located { finding: found, place })
}

/// Where sizes part in two, if they do and if it is to be blamed on anything.
fn cut<'a>(outcomes: impl Iterator<Item = &'a ProbeOutcome>) -> Option<Cut> {
    let mut by_size: BTreeMap<u16, Vec<&ProbeOutcome>> = BTreeMap::new();
    for probe in outcomes.filter(|probe| probe.send_error.is_none() && !probe.undecided) {
        by_size.entry(probe.size?).or_default().push(probe);
    }
    let any_answered = |probes: &[&ProbeOutcome]| probes.iter().any(|probe| probe.round_trip_us.is_some());
    let told = by_size.values().flatten().filter_map(|probe| probe.told_mtu).min();
    let passed = by_size.iter().filter(|(_, probes)| any_answered(probes)).map(|(size, _)| *size).max()?;
    // Whoever was told sends nothing larger.
    let relevant = by_size.range(..=told.unwrap_or(u16::MAX));
    let silent: Vec<(u16, usize)> = relevant
        .filter(|(_, probes)| !any_answered(probes) && probes.iter().all(|probe| probe.told_mtu.is_none()))
        .map(|(size, probes)| (*size, probes.len()))
        .collect();
    let (lost, times) = *silent.first()?;
    let losses: usize = silent.iter().map(|(_, times)| times).sum();
    let once_lost_below = by_size.range(..lost).any(|(_, probes)| {
        probes.iter().any(|probe| probe.round_trip_us.is_none() && probe.told_mtu.is_none())
    });
    (lost > passed && times > 1 && losses >= LOSSES && !once_lost_below).then_some(Cut { passed, lost, told })
}

/// What to say where large packets were lost without a word, and too few of them for more.
pub fn undecided(case: &Case<'_>) -> Option<NotSeen> {
    let sizes = case.of(Series::Sizes)?;
    let passed =
        sizes.probes().filter(|probe| probe.round_trip_us.is_some()).filter_map(|probe| probe.size).max();
    let silent = |probe: &&ProbeOutcome| {
        probe.size > passed
            && probe.round_trip_us.is_none()
            && probe.told_mtu.is_none()
            && probe.send_error.is_none()
    };
    let was_told = sizes.probes().any(|probe| probe.told_mtu.is_some());
    let lost: Vec<u16> = sizes.probes().filter(silent).filter_map(|probe| probe.size).collect();
    let smallest = lost.iter().min().filter(|_| !was_told)?;
    let again = if sizes.probes().any(|probe| probe.undecided) { "; --timeout 20s asks again" } else { "" };
    Some(NotSeen {
        what: "whether large packets pass".to_owned(),
        why: format!(
            "{} of {smallest} bytes and more were not answered, too few to blame their size{again}",
            lost.len()
        ),
    })
}

/// Where the large ones ended.
fn lost_at<'a>(sizes: &Case<'a>, lost: &BTreeSet<u16>, smallest: u16) -> (Place, Option<&'a DropSighting>) {
    for direction in [Direction::Forward, Direction::Return] {
        if let Some(drop) = sizes.trail.drop_here(direction) {
            return (dropped_at(sizes, direction, drop), Some(drop));
        }
        let Some(missing) = first_missing(sizes, direction, lost) else { continue };
        let place = match missing {
            Point::FromPod => sizes.place(direction, Stage::PodLink, None),
            Point::ToTunnel | Point::ToPod | Point::Bare => {
                let out = way_out(sizes, direction, 0);
                at_device(sizes, direction, out.filter(|out| out.mtu < u32::from(smallest)))
            }
            Point::ToWire => sizes.place(direction, Stage::Tunnel, None),
            Point::FromTunnel => sizes.place(direction, Stage::Decap, None),
            Point::FromWire => break,
        };
        return (place, None);
    }
    let node = sizes.model.tunnel_next_hop(sizes.target).or_else(|| sizes.model.bare_next_hop(sizes.target));
    let node = node.map_or_else(|| "the other node".to_owned(), |node| node.to_string());
    (Place { node, direction: None, stage: Stage::Underlay, device: None }, None)
}

fn dropped_at(sizes: &Case<'_>, direction: Direction, drop: &DropSighting) -> Place {
    let out = way_out(sizes, direction, drop.mark);
    let device = match DropKind::of(drop) {
        DropKind::Device => drop.link.and_then(|link| sizes.link(link)).or(out),
        _ => out,
    };
    at_device(sizes, direction, device)
}

/// The device by which packets of a direction leave the look-up.
fn way_out<'a>(sizes: &Case<'a>, direction: Direction, mark: u32) -> Option<&'a Link> {
    match look_up(sizes.model, &routing::flow(sizes, direction, mark)?) {
        Decision::Route { hops, .. } => sizes.link(hops.first()?.link?),
        _ => None,
    }
}

/// At a device that is too small for them; around routing where none is known.
fn at_device(sizes: &Case<'_>, direction: Direction, device: Option<&Link>) -> Place {
    let stage = match device.map(DeviceRole::of) {
        Some(DeviceRole::Pod) => Stage::PodLink,
        Some(DeviceRole::Tunnel) => Stage::Tunnel,
        Some(DeviceRole::Wire) => Stage::Underlay,
        None => Stage::Routing,
    };
    sizes.place(direction, stage, device.map(|link| link.name.clone()))
}

/// The MTUs that decide: of the pod's device, of `tunl0`, of the device and the route to the other node.
fn with_mtus(case: &Case<'_>, mut found: Finding) -> Finding {
    let pod = match &case.sender {
        Sender::Pod { link, .. } => case.link(*link),
        Sender::Host { .. } | Sender::Remote { .. } => None,
    };
    let node = case.model.tunnel_next_hop(case.target);
    for link in pod.into_iter().chain(node.and_then(|_| case.model.tunnel())) {
        found = found.with(EvidenceSource::Link, mtu_words(link));
    }
    let Some(node) = node else { return found };
    let Decision::Route { route, hops } = look_up(case.model, &outer_flow(node)) else { return found };
    if let Some(uplink) = hops.first().and_then(|hop| case.link(hop.link?)) {
        let fits = uplink.mtu.saturating_sub(OUTER_HEADER);
        let text = format!("{}, which leaves {fits} within IPIP", mtu_words(uplink));
        found = found.with(EvidenceSource::Link, text);
    }
    match route.mtu {
        Some(mtu) => found.with(EvidenceSource::Route, route_words(node, mtu)),
        None => found,
    }
}

fn mtu_words(link: &Link) -> String {
    format!("MTU {} of {}", link.mtu, link.name)
}

fn route_words(node: Ipv4Addr, mtu: u32) -> String {
    format!("the route to {node} allows {mtu}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(size: u16, passed: bool, told_mtu: Option<u16>) -> ProbeOutcome {
        ProbeOutcome {
            size: Some(size),
            round_trip_us: passed.then_some(9),
            told_mtu,
            ..ProbeOutcome::default()
        }
    }

    #[test]
    fn sizes_part_where_large_ones_vanish_without_a_word() {
        let outcomes = [
            probe(1480, false, None),
            probe(1401, false, None),
            probe(1400, true, None),
            probe(1401, false, None),
        ];
        assert_eq!(cut(outcomes.iter()), Some(Cut { passed: 1400, lost: 1401, told: None }));
    }

    #[test]
    fn whoever_is_told_what_fits_meets_no_black_hole() {
        let outcomes = [probe(1480, false, None), probe(1480, false, Some(1400)), probe(1400, true, None)];
        assert_eq!(cut(outcomes.iter()), None);
    }

    #[test]
    fn whoever_is_told_what_does_not_fit_does() {
        let mut outcomes = vec![probe(1480, false, Some(1400)), probe(1300, true, None)];
        outcomes.extend([probe(1400, false, None), probe(1350, false, None), probe(1350, false, None)]);
        assert_eq!(cut(outcomes.iter()), Some(Cut { passed: 1300, lost: 1350, told: Some(1400) }));
    }

    #[test]
    fn what_is_lost_at_random_is_not_blamed_on_its_size() {
        let by_chance = [
            probe(1480, false, None),
            probe(1480, false, None),
            probe(1450, true, None),
            probe(1400, false, None),
            probe(1400, true, None),
            probe(1480, false, None),
        ];
        assert_eq!(cut(by_chance.iter()), None);
        assert_eq!(cut([probe(1480, false, None), probe(1400, true, None)].iter()), None);
    }
}
