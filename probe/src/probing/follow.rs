//! Sends probes and watches them until each is answered, dropped, or silent for as long as it could take.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::SelectAll};

use super::{
    answer::{Answer, Answered, Answers},
    echo::EchoSender,
    follower::Follower,
    marks::ProbeNumber,
    port::PortSender,
    rounds,
};
use crate::observation::{
    DropNamespace, FollowedEvent, Observation, PacketId, PacketKind, ProbeOutcome, Series, Sighting,
};

/// How long a probe that left this node may stay unanswered.
const AWAY: Duration = Duration::from_secs(1);
/// How long a probe may be held up on this node: three ARP requests a second apart, and their end.
const HELD_UP: Duration = Duration::from_millis(4200);
/// A probe that leaves this node so late has waited for a neighbour's answer.
const LATE: Duration = Duration::from_millis(300);
/// Between two probes of one sender, so that none waits behind another in a neighbour's queue of a few packets.
const SPACING: Duration = Duration::from_millis(2);
/// How long nothing more may come before what is there counts as taken.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// The longest that the last look at traffic without an end may take.
const LONGEST_LAST_LOOK: Duration = Duration::from_millis(200);
/// Packets that are kept of each kind; many times those of the longest diagnosis.
pub const MOST_KEPT: usize = 16_384;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub target: Ipv4Addr,
    /// The longest that it may take.
    pub timeout: Duration,
}

/// The probes of one series of one sender.
pub struct Lane {
    pub series: Series,
    /// Which of the senders, counted from 0.
    pub sender: u8,
    pub socket: ProbeSocket,
    /// The first probes: their sizes, or the usual one.
    pub first: Vec<Option<u16>>,
}

impl Lane {
    fn flow(&self) -> u8 {
        self.series.flow(self.sender)
    }
}

pub enum ProbeSocket {
    Echo(EchoSender),
    Port(PortSender),
}

/// Whether a device hands packets to other machines or pods, so that a probe seen leaving by it is away.
pub trait Leaving {
    fn leaves(&self, sighting: &Sighting) -> bool;
}

impl<F: Fn(&Sighting) -> bool> Leaving for F {
    fn leaves(&self, sighting: &Sighting) -> bool {
        self(sighting)
    }
}

/// Sends the probes of all lanes, in rounds as long as one raises a question that another answers, and returns what
/// became of them. Then does what is to be done last, and watches on meanwhile: an answer that another node has sent
/// just before it was asked may still come.
pub async fn send_and_follow<T>(
    plan: Plan,
    mut lanes: Vec<Lane>,
    follower: &mut Follower,
    leaving: &impl Leaving,
    at_last: impl Future<Output = T>,
) -> anyhow::Result<(Observation, T)> {
    let end = Instant::now() + plan.timeout;
    let mut watch = Watch::default();
    let mut answers: SelectAll<Answers> = lanes
        .iter()
        .filter_map(|lane| match &lane.socket {
            ProbeSocket::Echo(sender) => Some(sender.answers()),
            ProbeSocket::Port(_) => None,
        })
        .collect();
    let mut round: Vec<Vec<Option<u16>>> = lanes.iter().map(|lane| lane.first.clone()).collect();
    while round.iter().any(|sizes| !sizes.is_empty()) {
        for number in 0..round.iter().map(Vec::len).max().unwrap_or_default() {
            for (lane, sizes) in lanes.iter_mut().zip(&round) {
                if let Some(size) = sizes.get(number) {
                    answers.extend(watch.send(lane, plan.target, *size));
                }
            }
            tokio::time::sleep(SPACING).await;
        }
        while let Some(wait) = watch.wait(end) {
            tokio::select! {
                event = follower.next() => watch.enter(event?, leaving),
                Some(answer) = answers.next() => watch.answer(answer?),
                () = tokio::time::sleep(wait) => {}
            }
        }
        watch.take_what_is_there(follower, &mut answers, leaving).await?;
        round = lanes
            .iter()
            .map(|lane| {
                let mut again = watch.take_back(lane.flow());
                again.extend(rounds::next(lane.series, &watch.outcomes(lane.flow())));
                again
            })
            .collect();
        if Instant::now() >= end {
            break;
        }
    }
    tokio::pin!(at_last);
    let outcome = loop {
        tokio::select! {
            event = follower.next() => watch.enter(event?, leaving),
            Some(answer) = answers.next() => watch.answer(answer?),
            outcome = &mut at_last => break outcome,
        }
    };
    watch.take_what_is_there(follower, &mut answers, leaving).await?;
    Ok((watch.finish(follower), outcome))
}

/// Watches traffic that is there, and sends nothing.
pub async fn watch_only(follower: &mut Follower, timeout: Duration) -> anyhow::Result<Observation> {
    watch_until(follower, tokio::time::sleep(timeout)).await
}

/// Watches traffic that is there until something else ends it, and takes what is already there then.
pub async fn watch_until(
    follower: &mut Follower,
    end: impl Future<Output = ()>,
) -> anyhow::Result<Observation> {
    let mut watch = Watch::default();
    let nowhere = |_: &Sighting| false;
    tokio::pin!(end);
    loop {
        tokio::select! {
            event = follower.next() => watch.enter(event?, &nowhere),
            () = &mut end => break,
        }
    }
    let last = tokio::time::Instant::now() + LONGEST_LAST_LOOK;
    loop {
        tokio::select! {
            event = follower.next() => watch.enter(event?, &nowhere),
            () = tokio::time::sleep(LAST_LOOK) => break,
            () = tokio::time::sleep_until(last) => break,
        }
    }
    Ok(watch.finish(follower))
}

/// One probe on its way.
struct Probe {
    sent: Instant,
    /// When it was last seen to do something.
    moved: Instant,
    away: bool,
    /// Whether it left only once a neighbour had answered, and so at once with others.
    held_up: bool,
    ended: bool,
    outcome: ProbeOutcome,
}

#[derive(Default)]
struct Watch {
    probes: BTreeMap<ProbeNumber, Probe>,
    /// Flows of echo requests of which one was answered, and when first. All of a flow go to one next hop, so what a
    /// neighbour held up is away since then too.
    passing: BTreeMap<u8, Instant>,
    observation: Observation,
    /// Probes that were taken back.
    taken_back: usize,
    /// By flow.
    next_sequences: BTreeMap<u8, u16>,
    /// Packets beyond those that are kept.
    left_out: usize,
}

fn keep<T>(kept: &mut Vec<T>, new: T, left_out: &mut usize) {
    if kept.len() < MOST_KEPT { kept.push(new) } else { *left_out += 1 }
}

impl Watch {
    /// Sends the next probe of a lane, and returns where its answer will come if that is a socket of its own.
    fn send(&mut self, lane: &mut Lane, target: Ipv4Addr, size: Option<u16>) -> Option<Answers> {
        let flow = lane.flow();
        let sequence = self.next_sequence(flow);
        let number = ProbeNumber { flow, sequence };
        let now = Instant::now();
        let mut outcome = ProbeOutcome { flow, sequence, size, ..ProbeOutcome::default() };
        let answers = match &mut lane.socket {
            ProbeSocket::Echo(sender) => sender.send(target, number, size).map(|()| None),
            ProbeSocket::Port(sender) if sender.left() == 0 => return None,
            ProbeSocket::Port(sender) => sender.send(target, number).map(|sent| {
                outcome.source_port = Some(sent.source_port);
                Some(sent.answers)
            }),
        };
        outcome.send_error = answers.as_ref().err().map(|error| format!("{error:?}"));
        let ended = answers.is_err();
        self.probes
            .insert(number, Probe { sent: now, moved: now, away: false, held_up: false, ended, outcome });
        answers.ok().flatten()
    }

    /// An answer may be read before the events of its own way, and the end of a reply behind its socket, which the
    /// kernel reports as a drop, before the answer.
    async fn take_what_is_there(
        &mut self,
        follower: &mut Follower,
        answers: &mut SelectAll<Answers>,
        leaving: &impl Leaving,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                event = follower.next() => self.enter(event?, leaving),
                Some(answer) = answers.next() => self.answer(answer?),
                () = tokio::time::sleep(LAST_LOOK) => return Ok(()),
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        let now = Instant::now();
        let Some(probe) = self.probes.get_mut(&answer.number) else { return };
        match answer.what {
            Answered::Reply | Answered::Refused => {
                let elapsed = u64::try_from((now - probe.sent).as_micros()).unwrap_or(u64::MAX);
                probe.outcome.round_trip_us.get_or_insert(elapsed);
                probe.outcome.refused = answer.what == Answered::Refused;
                probe.ended = true;
                if probe.outcome.source_port.is_none() {
                    self.passing.entry(answer.number.flow).or_insert(now);
                }
            }
            Answered::Failed(error) => {
                probe.outcome.failure = Some(format!("{error:?}"));
                probe.ended = true;
            }
            Answered::Error { from, icmp_type, code, told_mtu } => {
                probe.outcome.icmp_error.get_or_insert((from, icmp_type, code));
                probe.outcome.told_mtu = probe.outcome.told_mtu.or(told_mtu);
                probe.moved = now;
                probe.away = true;
                // What is too big is not sent again by whoever was told.
                probe.ended |= told_mtu.is_some();
            }
        }
    }

    fn enter(&mut self, event: FollowedEvent, leaving: &impl Leaving) {
        match event {
            FollowedEvent::Seen(sighting) => {
                if let Some(probe) = self.probe_of(sighting.packet.flow, sighting.packet.sequence)
                    && !matches!(sighting.packet.kind, PacketKind::IcmpError { .. })
                {
                    probe.moved = Instant::now();
                    probe.away = leaving.leaves(&sighting);
                    probe.held_up |= probe.away && probe.moved - probe.sent > LATE;
                }
                keep(&mut self.observation.sightings, sighting, &mut self.left_out);
            }
            FollowedEvent::Dropped(drop) => {
                if let Some(probe) = self.probe_of(drop.packet.flow, drop.packet.sequence)
                    && !matches!(drop.packet.kind, PacketKind::IcmpError { .. })
                    && drop.namespace != DropNamespace::Unknown
                {
                    probe.ended = true;
                }
                keep(&mut self.observation.drops, drop, &mut self.left_out);
            }
        }
    }

    /// Takes back what was held up, went off at once with others and is lost, where others of the flow were answered:
    /// a node that tracks connections drops the second packet of a flow that comes with the first, before that is
    /// confirmed (`__nf_conntrack_confirm`). Returns what is to be sent again in their place.
    fn take_back(&mut self, flow: u8) -> Vec<Option<u16>> {
        if !self.passing.contains_key(&flow) {
            return Vec::new();
        }
        let in_vain = |probe: &Probe| {
            let outcome = &probe.outcome;
            probe.held_up && outcome.round_trip_us.is_none() && outcome.icmp_error.is_none()
        };
        let lost: Vec<ProbeNumber> = self
            .probes
            .iter()
            .filter(|(number, probe)| number.flow == flow && in_vain(probe))
            .map(|(number, _)| *number)
            .collect();
        let is_of_them =
            |packet: PacketId| lost.contains(&ProbeNumber { flow: packet.flow, sequence: packet.sequence });
        self.observation.sightings.retain(|sighting| !is_of_them(sighting.packet));
        self.observation.drops.retain(|drop| !is_of_them(drop.packet));
        self.taken_back += lost.len();
        lost.iter().filter_map(|number| self.probes.remove(number)).map(|probe| probe.outcome.size).collect()
    }

    /// No number is used again: an answer to what was taken back may still come.
    fn next_sequence(&mut self, flow: u8) -> u16 {
        let next = self.next_sequences.entry(flow).or_default();
        let sequence = *next;
        *next = next.saturating_add(1);
        sequence
    }

    fn probe_of(&mut self, flow: u8, sequence: u16) -> Option<&mut Probe> {
        self.probes.get_mut(&ProbeNumber { flow, sequence })
    }

    /// When a probe is given up.
    fn due(&self, probe: &Probe) -> Instant {
        match self.passing.get(&probe.outcome.flow) {
            Some(passing) => probe.moved.max(*passing) + AWAY,
            None if probe.away => probe.moved + AWAY,
            None => probe.sent + HELD_UP,
        }
    }

    /// How long to wait for the next change; `None` when nothing more can come.
    fn wait(&self, end: Instant) -> Option<Duration> {
        let now = Instant::now();
        self.probes
            .values()
            .filter(|probe| !probe.ended)
            .map(|probe| self.due(probe).min(end))
            .filter_map(|due| due.checked_duration_since(now))
            .filter(|wait| !wait.is_zero())
            .max()
    }

    /// What became of one flow so far, in the order in which it was sent.
    fn outcomes(&self, flow: u8) -> Vec<&ProbeOutcome> {
        let first = ProbeNumber { flow, sequence: 0 };
        let last = ProbeNumber { flow, sequence: u16::MAX };
        self.probes.range(first..=last).map(|(_, probe)| &probe.outcome).collect()
    }

    fn finish(mut self, follower: &Follower) -> Observation {
        let now = Instant::now();
        let outcome = |probe: &Probe| {
            let undecided = probe.outcome.round_trip_us.is_none() && !probe.ended && self.due(probe) > now;
            ProbeOutcome { undecided, ..probe.outcome.clone() }
        };
        self.observation.probes = self.probes.values().map(outcome).collect();
        self.observation.limits = follower.limits();
        self.observation.missed = follower.missed();
        if self.taken_back > 0 {
            let why = format!(
                "{} that waited for a neighbour and left at once with others were lost, and sent again",
                self.taken_back
            );
            self.observation.limits.push(("every probe".to_owned(), why));
        }
        if self.left_out > 0 {
            let why = format!("{} more than {MOST_KEPT} packets were not kept", self.left_out);
            self.observation.limits.push(("every packet".to_owned(), why.clone()));
            self.observation.missed.push(why);
        }
        self.observation
    }
}
