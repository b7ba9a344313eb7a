//! Sends probes and watches them until each is answered, dropped, or silent for as long as it could take.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{cookie::ProbeNumber, echo::EchoSender, follower::Follower, icmp::Answer};
use crate::observation::{DropNamespace, FollowedEvent, Observation, PacketKind, ProbeOutcome, Sighting};

/// How long a probe that left this node may stay unanswered.
const AWAY: Duration = Duration::from_secs(1);
/// How long a probe may be held up on this node: three ARP requests a second apart, and their end.
const HELD_UP: Duration = Duration::from_millis(4200);
/// Between two probes of one sender, so that none waits behind another in a neighbour's queue of a few packets.
const SPACING: Duration = Duration::from_millis(2);
/// How long nothing more may come before what is there counts as taken.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub target: Ipv4Addr,
    /// Probes of each sender.
    pub count: u16,
    /// The longest that it may take.
    pub timeout: Duration,
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

/// Sends the probes of all senders, flow 0 from the first, and returns what became of them.
pub async fn send_and_follow(
    plan: Plan,
    senders: &[EchoSender],
    follower: &mut Follower,
    leaving: &impl Leaving,
) -> anyhow::Result<Observation> {
    let start = Instant::now();
    let mut watch = Watch::default();
    for sequence in 0..plan.count {
        for (flow, sender) in (0u8..).zip(senders) {
            watch.send(sender, plan.target, ProbeNumber { flow, sequence });
        }
        tokio::time::sleep(SPACING).await;
    }
    let mut answers: FuturesUnordered<_> = senders.iter().map(next_answer).collect();
    let end = start + plan.timeout;
    while let Some(wait) = watch.wait(end) {
        tokio::select! {
            event = follower.next() => watch.enter(event?, leaving),
            Some((sender, answer)) = answers.next() => {
                watch.answer(answer?);
                answers.push(next_answer(sender));
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
    // What is already there is taken: an answer may be read before the events of its own way, and the end of a
    // reply behind its socket, which the kernel reports as a drop, before the answer.
    loop {
        tokio::select! {
            event = follower.next() => watch.enter(event?, leaving),
            Some((sender, answer)) = answers.next() => {
                watch.answer(answer?);
                answers.push(next_answer(sender));
            }
            () = tokio::time::sleep(LAST_LOOK) => break,
        }
    }
    Ok(watch.finish(follower))
}

/// Watches traffic that is there, and sends nothing.
pub async fn watch_only(follower: &mut Follower, timeout: Duration) -> anyhow::Result<Observation> {
    let mut watch = Watch::default();
    let end = tokio::time::Instant::now() + timeout;
    while let Ok(event) = tokio::time::timeout_at(end, follower.next()).await {
        watch.enter(event?, &|_: &Sighting| false);
    }
    Ok(watch.finish(follower))
}

async fn next_answer(sender: &EchoSender) -> (&EchoSender, std::io::Result<Answer>) {
    (sender, sender.next_answer().await)
}

/// One probe on its way.
struct Probe {
    sent: Instant,
    /// When it was last seen to do something.
    moved: Instant,
    away: bool,
    ended: bool,
    outcome: ProbeOutcome,
}

#[derive(Default)]
struct Watch {
    probes: BTreeMap<ProbeNumber, Probe>,
    observation: Observation,
}

impl Watch {
    fn send(&mut self, sender: &EchoSender, target: Ipv4Addr, number: ProbeNumber) {
        let now = Instant::now();
        let send_error = sender.send(target, number).err().map(|error| format!("{error:?}"));
        let outcome = ProbeOutcome {
            flow: number.flow,
            sequence: number.sequence,
            round_trip_us: None,
            icmp_error: None,
            send_error,
        };
        let ended = outcome.send_error.is_some();
        self.probes.insert(number, Probe { sent: now, moved: now, away: false, ended, outcome });
    }

    fn answer(&mut self, answer: Answer) {
        let now = Instant::now();
        let number = match answer {
            Answer::Reply(number) | Answer::Error { number, .. } => number,
        };
        let Some(probe) = self.probes.get_mut(&number) else { return };
        match answer {
            Answer::Reply(_) => {
                let elapsed = u64::try_from((now - probe.sent).as_micros()).unwrap_or(u64::MAX);
                probe.outcome.round_trip_us.get_or_insert(elapsed);
                probe.ended = true;
            }
            Answer::Error { from, icmp_type, code, .. } => {
                probe.outcome.icmp_error.get_or_insert((from, icmp_type, code));
                probe.moved = now;
                probe.away = true;
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
                }
                self.observation.sightings.push(sighting);
            }
            FollowedEvent::Dropped(drop) => {
                if let Some(probe) = self.probe_of(drop.packet.flow, drop.packet.sequence)
                    && !matches!(drop.packet.kind, PacketKind::IcmpError { .. })
                    && drop.namespace != DropNamespace::Unknown
                {
                    probe.ended = true;
                }
                self.observation.drops.push(drop);
            }
        }
    }

    fn probe_of(&mut self, flow: u8, sequence: u16) -> Option<&mut Probe> {
        self.probes.get_mut(&ProbeNumber { flow, sequence })
    }

    /// How long to wait for the next change; `None` when nothing more can come.
    fn wait(&self, end: Instant) -> Option<Duration> {
        let now = Instant::now();
        self.probes
            .values()
            .filter(|probe| !probe.ended)
            .map(|probe| if probe.away { probe.moved + AWAY } else { probe.sent + HELD_UP })
            .map(|due| due.min(end))
            .filter_map(|due| due.checked_duration_since(now))
            .filter(|wait| !wait.is_zero())
            .max()
    }

    fn finish(mut self, follower: &Follower) -> Observation {
        self.observation.probes = self.probes.into_values().map(|probe| probe.outcome).collect();
        self.observation.limits = follower.limits();
        self.observation
    }
}
