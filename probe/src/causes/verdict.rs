//! One case judged: where its packets ended, and why. Exactly one finding comes first; what follows from it is
//! not a finding of its own.

use std::collections::BTreeSet;

use super::{
    Cause, beyond, both_ends,
    case::{Case, Located},
    checksum, conflict,
    drop_kind::{DropKind, describe},
    inbound,
    kernel_route::{self, Agreement},
    misdirected, neighbour, netfilter, other_dataplane,
    path::first_missing,
    path_mtu, pod, port, queue, reverse_path, routing, sender, several_next_hops,
    trail::Dropped,
    tunnel, vanished,
};
use crate::{
    observation::{DropNamespace, DropSighting, Traffic},
    report::document::{
        Certainty, Direction, EvidenceSource, Finding, Next, NotSeen, Place, Point, Stage, Verdict,
    },
};

/// What the case comes to.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub verdict: Verdict,
    pub lost_at: Option<Place>,
    pub findings: Vec<Finding>,
    pub next: Vec<Next>,
    pub not_seen: Vec<NotSeen>,
}

/// Where the lost packets of a case ended.
pub(super) enum Ending {
    Located(Located),
    /// The place is known, the cause is not; the text says what was seen.
    Unknown {
        place: Option<Place>,
        seen: String,
    },
}

/// Judges a case of probes.
pub fn judge(case: &Case<'_>) -> Judgement {
    let sent = case.probes().count();
    let lost: BTreeSet<u16> =
        case.probes().filter(|probe| probe.round_trip_us.is_none()).map(|probe| probe.sequence).collect();
    if let Some(located) = conflict::of_target(case) {
        return conclude(case, Ending::Located(located), true);
    }
    if lost.is_empty() && sent > 0 {
        return answered(case);
    }
    let all_lost = lost.len() == sent;
    if all_lost && let Some(port) = case.accepted_port() {
        return reachable_but_by_icmp(case, port, locate(case, &lost));
    }
    conclude(case, locate(case, &lost), all_lost)
}

/// Every probe was answered, if only by a refusal; larger ones may yet vanish.
fn answered(case: &Case<'_>) -> Judgement {
    if case.is_refused() {
        return conclude(case, refused(case), true);
    }
    if let Some(located) = path_mtu::black_hole(case).or_else(|| several_next_hops::partly_dead(case)) {
        return conclude(case, Ending::Located(located), false);
    }
    let mut judgement = reachable(case);
    judgement.not_seen.extend(path_mtu::undecided(case));
    judgement
}

/// Who refused: a rule here, a rule of the target's node, or the pod itself.
fn refused(case: &Case<'_>) -> Ending {
    let far = case.far.filter(|far| !far.trail.steps.is_empty());
    for end in [Some(case), far].into_iter().flatten() {
        let drop = end.trail.drop_here(Direction::Forward);
        if let Some(drop) = drop.filter(|drop| !matches!(DropKind::of(drop), DropKind::Socket)) {
            return dropped(end, Direction::Forward, drop);
        }
    }
    Ending::Located(port::refused(far.unwrap_or(case)))
}

/// Echo requests are lost, and a TCP connection is accepted: something denies ICMP alone.
fn reachable_but_by_icmp(case: &Case<'_>, port: u16, ending: Ending) -> Judgement {
    let why = match ending {
        Ending::Unknown { seen, .. } => seen,
        Ending::Located(located) => located.finding.summary,
    };
    let mut judgement = reachable(case);
    judgement.not_seen.insert(
        0,
        NotSeen {
            what: "answers to ICMP".to_owned(),
            why: format!("{why}; TCP port {port} accepted a connection"),
        },
    );
    judgement
}

fn conclude(case: &Case<'_>, ending: Ending, all_lost: bool) -> Judgement {
    match ending {
        Ending::Located(located) => {
            let judged_there = case.far.filter(|far| far.node == located.place.node);
            let owner = judged_there.unwrap_or(case);
            let mut located = other_dataplane::at_its_device(owner, &located).unwrap_or(located);
            if judged_there.is_none()
                && located.place.direction == Some(Direction::Forward)
                && located.place.stage == Stage::Routing
            {
                match kernel_route::compare(case) {
                    Agreement::Contradicted(seen) if all_lost => {
                        return unknown(case, Some(located.place), seen);
                    }
                    // What was answered tells the same: it changed while probes were sent.
                    Agreement::Contradicted(seen) => {
                        located.finding = located.finding.with(EvidenceSource::Route, seen);
                    }
                    Agreement::Confirmed(text) => {
                        located.finding = located.finding.with(EvidenceSource::Route, text);
                    }
                    Agreement::Unknown => {}
                }
            }
            let verdict = verdict_of(case, &located.finding, all_lost);
            let next = next_places(case, &located.place);
            let mut not_seen = limits(case);
            not_seen.extend(behind(case, &located, verdict));
            Judgement {
                verdict,
                lost_at: Some(located.place),
                findings: vec![located.finding],
                next,
                not_seen,
            }
        }
        Ending::Unknown { place, seen } => unknown(case, place, seen),
    }
}

/// Judges a case of watched traffic: nothing was sent, so silence proves nothing, and only what was seen counts.
pub fn judge_traffic(case: &Case<'_>) -> Judgement {
    let any: BTreeSet<u16> = BTreeSet::from([0]);
    let seen = |direction| case.trail.steps.iter().any(|step| step.direction == direction);
    let (forward, back) = (seen(Direction::Forward), seen(Direction::Return));
    if !forward && !back && case.trail.drops.is_empty() {
        return unknown(case, None, "no packet between the two addresses passed here meanwhile".to_owned());
    }
    let passed = |direction| first_missing(case, direction, &any).is_none();
    let misled = misdirected::by_route(case, Direction::Return);
    // An answer ends at its socket, which the kernel reports as a drop.
    let is_loss = |dropped: &Dropped<'_>| {
        dropped.drop.namespace != DropNamespace::Other && DropKind::of(dropped.drop) != DropKind::Socket
    };
    if !case.trail.drops.iter().any(is_loss)
        && passed(Direction::Forward)
        && passed(Direction::Return)
        && misled.is_none()
    {
        return reachable(case);
    }
    let mut judgement = conclude(case, locate(case, &any), true);
    let is_that = |misled: Located| judgement.findings.first() == Some(&misled.finding);
    if misled.is_some_and(is_that) && case.trail.errors.is_empty() {
        // The route looks wrong, and nothing shows that what it sent was lost.
        judgement.verdict = Verdict::Unknown;
    }
    judgement
}

/// What loses a part of the probes is degraded, whether or not the cause is known. Datagrams may be left unanswered
/// by whoever received them.
pub fn admit_partial_loss(case: &Case<'_>, judgement: &mut Judgement) {
    let (sent, lost) = (case.probes().count(), case.lost());
    if judgement.verdict != Verdict::Unknown || lost == 0 || lost == sent {
        return;
    }
    if !case.loses_a_part() && !matches!(case.traffic, Traffic::Udp(_)) {
        let why = format!(
            "{lost} of {sent} were lost, and the time ran out before more could be sent: try --timeout 20s"
        );
        judgement.not_seen.insert(0, NotSeen { what: "a rate".to_owned(), why });
        return;
    }
    match case.traffic {
        Traffic::Echo | Traffic::Tcp(_) => judgement.verdict = Verdict::Degraded,
        Traffic::Udp(_) => {
            judgement.verdict = Verdict::Reachable;
            judgement.lost_at = None;
            judgement.findings.clear();
            let why = format!("{lost} of {sent} datagrams were not answered, which a server may choose");
            judgement.not_seen.insert(0, NotSeen { what: "every answer".to_owned(), why });
        }
    }
}

fn unknown(case: &Case<'_>, place: Option<Place>, mut seen: String) -> Judgement {
    let ports = case.refused_ports();
    if !ports.is_empty() {
        seen = format!("{seen}; TCP ports {} accepted no connection either", join(&ports));
    }
    let mut not_seen = vec![NotSeen { what: "the cause".to_owned(), why: seen }];
    not_seen.extend(limits(case));
    let next = place.iter().flat_map(|place| next_places(case, place)).collect();
    Judgement { verdict: Verdict::Unknown, lost_at: place, findings: Vec::new(), next, not_seen }
}

fn join(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

fn reachable(case: &Case<'_>) -> Judgement {
    let mut judgement = Judgement {
        verdict: Verdict::Reachable,
        lost_at: None,
        findings: netfilter::rewritten_source(case)
            .into_iter()
            .chain(several_next_hops::all_alive(case))
            .collect(),
        next: Vec::new(),
        not_seen: limits(case),
    };
    if case.model.is_local_pod(case.target) {
        if let Some(located) = inbound::broken(case) {
            judgement.verdict = Verdict::BlackHole;
            judgement.lost_at = Some(located.place);
            judgement.findings.push(located.finding);
        } else {
            judgement.not_seen.push(NotSeen {
                what: "the way here from other nodes".to_owned(),
                why: "delivered from this node; only a probe from another node tests it".to_owned(),
            });
        }
    }
    judgement
}

/// A lost echo alone does not make a pod dead: where only the pod is silent, or all that is known lies beyond
/// this node, it is not proven.
fn verdict_of(case: &Case<'_>, finding: &Finding, all_lost: bool) -> Verdict {
    let lost_in_part = case.loses_a_part();
    match finding.cause {
        Cause::PodRefused if case.is_refused() => Verdict::Denied,
        Cause::PodRefused if all_lost && case.traffic != Traffic::Echo => Verdict::Denied,
        // A pod's kernel answers every SYN, if only by a reset, unless the pod's own rules deny it.
        Cause::PodNoAnswer
            if all_lost && matches!(case.traffic, Traffic::Tcp(_)) && case.observation.sees_drops() =>
        {
            Verdict::BlackHole
        }
        Cause::PodNoAnswer | Cause::PodRefused if !lost_in_part => Verdict::Unknown,
        // One end alone cannot tell that from a loss on the other node.
        Cause::LostInUnderlay if !lost_in_part && finding.certainty == Certainty::Inferred => {
            Verdict::Unknown
        }
        Cause::SnatOnPodTraffic | Cause::DataplaneUnsupported => Verdict::Unknown,
        Cause::PolicyDrop => Verdict::Denied,
        _ if all_lost => Verdict::BlackHole,
        _ => Verdict::Degraded,
    }
}

/// What could not be observed, as the followers of the probes said.
fn limits(case: &Case<'_>) -> Vec<NotSeen> {
    let limits = |case: &Case<'_>, on: &str| -> Vec<NotSeen> {
        let not_seen =
            |(what, why): &(String, String)| NotSeen { what: format!("{what}{on}"), why: why.clone() };
        case.observation.limits.iter().map(not_seen).collect()
    };
    let mut all = limits(case, "");
    all.extend(case.far.into_iter().flat_map(|far| limits(far, &format!(" on {}", far.node))));
    all
}

/// Packets that all ended on this node show nothing of the rest of their way.
fn behind(case: &Case<'_>, located: &Located, verdict: Verdict) -> Option<NotSeen> {
    let on_a_node = is_watched(case, &located.place) && located.finding.cause != Cause::LostInUnderlay;
    let ended_here = on_a_node && matches!(verdict, Verdict::BlackHole | Verdict::Denied);
    ended_here.then(|| NotSeen {
        what: "what lies behind".to_owned(),
        why: "no packet got past it, and a second fault there would not show".to_owned(),
    })
}

/// Whether the node of a place was watched.
fn is_watched(case: &Case<'_>, place: &Place) -> bool {
    place.node == case.node || case.far.is_some_and(|far| far.node == place.node)
}

fn next_places(case: &Case<'_>, place: &Place) -> Vec<Next> {
    if is_watched(case, place) {
        return Vec::new();
    }
    let port = match case.traffic {
        Traffic::Echo => String::new(),
        Traffic::Tcp(port) => format!(" --port {port}"),
        Traffic::Udp(port) => format!(" --port {port} --protocol udp"),
    };
    vec![Next { node: place.node.clone(), command: format!("caliprobe diagnose {}{port}", case.target) }]
}

pub(super) fn locate(case: &Case<'_>, lost: &BTreeSet<u16>) -> Ending {
    if let Some(ending) = sender::refused(case) {
        return Ending::Located(ending);
    }
    for direction in [Direction::Forward, Direction::Return] {
        if let Some(located) = checksum::broken(case, direction) {
            return Ending::Located(located);
        }
        if let Some(drop) = case.trail.drop_here(direction) {
            return dropped(case, direction, drop);
        }
        if let Some(ending) = leaked(case, direction) {
            return ending;
        }
        if let Some(ending) = ended_without_drop(case, direction, lost) {
            return ending;
        }
    }
    if let Some(located) = misdirected::by_route(case, Direction::Return) {
        return Ending::Located(located);
    }
    Ending::Unknown {
        place: None,
        seen: "every point of this node was passed in both directions, and the sender has no answer"
            .to_owned(),
    }
}

/// Judges a visible drop on this node.
fn dropped(case: &Case<'_>, direction: Direction, drop: &DropSighting) -> Ending {
    let located = match DropKind::of(drop) {
        DropKind::ReversePath => reverse_path::dropped(case, direction, drop),
        DropKind::RouteLookUp => routing::refused(case, direction, Some(drop)),
        DropKind::Netfilter(hook) => return netfilter::dropped(case, direction, hook, drop),
        DropKind::Neighbour => neighbour::failed(case, direction, drop),
        DropKind::Device => {
            queue::dropped(case, direction, drop).or_else(|| neighbour::failed(case, direction, drop))
        }
        DropKind::TunnelEntry => tunnel::entry(case, direction, Some(drop)),
        DropKind::TunnelReceive => tunnel::down_for_arrivals(case, direction),
        DropKind::Queue | DropKind::Filter => queue::dropped(case, direction, drop),
        DropKind::Checksum | DropKind::Socket | DropKind::Other => None,
    };
    match located {
        Some(located) => Ending::Located(located),
        None => Ending::Unknown {
            place: Some(case.place(
                direction,
                stage_of(DropKind::of(drop)),
                drop.link.map(|link| case.link_name(link)),
            )),
            seen: format!("{}; routes and settings do not explain it", describe(drop)),
        },
    }
}

fn stage_of(kind: DropKind) -> Stage {
    match kind {
        DropKind::ReversePath
        | DropKind::RouteLookUp
        | DropKind::Checksum
        | DropKind::Other
        | DropKind::Socket => Stage::Routing,
        DropKind::Queue | DropKind::Filter => Stage::Underlay,
        DropKind::Netfilter(_) => Stage::Netfilter,
        DropKind::Neighbour => Stage::Neighbour,
        DropKind::TunnelEntry => Stage::Tunnel,
        DropKind::TunnelReceive => Stage::Decap,
        DropKind::Device => Stage::PodLink,
    }
}

/// Judges pod traffic that left without encapsulation where no lawful bare route sent it.
fn leaked(case: &Case<'_>, direction: Direction) -> Option<Ending> {
    let step = case
        .trail
        .at(direction, Point::Bare)
        .find(|step| step.seen.iter().any(|sighting| sighting.outgoing))?;
    let sighting = step.seen.iter().find(|sighting| sighting.outgoing)?;
    let destination = sighting.packet.destination;
    if case.model.is_lawfully_bare(destination, step.link) {
        return None;
    }
    Some(routing::leaked(case, direction, sighting).map_or_else(
        || Ending::Unknown {
            place: Some(case.place(direction, Stage::Routing, Some(case.link_name(step.link)))),
            seen: format!(
                "{destination} left {} bare, though no route of this node sends it there",
                case.link_name(step.link)
            ),
        },
        Ending::Located,
    ))
}

/// The first point that lost packets did not reach, and what it means that they were not seen to be dropped.
fn ended_without_drop(case: &Case<'_>, direction: Direction, lost: &BTreeSet<u16>) -> Option<Ending> {
    let missing = first_missing(case, direction, lost)?;
    let from_here = direction == Direction::Forward;
    Some(match missing {
        Point::FromPod if from_here => sender::never_left(case),
        Point::FromPod => target_silent(case)?,
        Point::FromWire if !from_here => nothing_came_back(case, lost),
        Point::Bare if !from_here && case.model.has_bare_route(case.target) => nothing_came_back(case, lost),
        Point::FromWire => Ending::Unknown {
            place: None,
            seen: format!("nothing from {} arrived here encapsulated", routing::sender_words(&case.sender)),
        },
        Point::FromTunnel => vanished::at_decapsulation(case, direction),
        Point::ToWire => vanished::in_tunnel(case, direction, lost.len()),
        Point::ToTunnel | Point::ToPod | Point::Bare => vanished::in_routing(case, direction, lost.len()),
    })
}

fn nothing_came_back(case: &Case<'_>, lost: &BTreeSet<u16>) -> Ending {
    both_ends::beyond(case, lost)
        .or_else(|| port::silent_beyond(case))
        .unwrap_or_else(|| Ending::Located(beyond::this_node(case)))
}

/// What visible drops alone prove, where nobody says which packets were lost.
pub fn of_drops(case: &Case<'_>) -> Vec<Located> {
    let mut found = Vec::new();
    for direction in [Direction::Forward, Direction::Return] {
        if let Some(drop) = case.trail.drop_here(direction)
            && DropKind::of(drop) != DropKind::Socket
            && let Ending::Located(located) = dropped(case, direction, drop)
        {
            found.push(located);
        }
    }
    found
}

/// The probes reached the target's own veth on this node, and nothing came out of it.
fn target_silent(case: &Case<'_>) -> Option<Ending> {
    let step = case.trail.at(Direction::Forward, Point::ToPod).next()?;
    let device = case.link(step.link)?;
    let refusal = case.trail.drop_in_pod(Direction::Forward);
    Some(Ending::Located(pod::silent(case, Direction::Forward, device, refusal)))
}
