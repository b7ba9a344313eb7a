//! When losses are a black hole: ten packets in a second are one, a few beside a change that is over are none.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    causes::Cause,
    report::document::{Evidence, EvidenceSource, Finding, Place, Subject},
    state::{BlackHole, EventKind},
};

/// Packets that make a black hole at once where its cause is known, and at all where it is not.
const MANY: u64 = 10;
/// Packets that are enough where the cause still stands at the next reading.
const SOME: u64 = 3;
/// How long a suspicion is kept without another packet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long no packet must have been lost once the cause is gone. A neighbour that does not answer loses packets
/// every three seconds only.
const QUIET: Duration = Duration::from_secs(10);
/// The same while the cause still stands: nobody may have sent.
const LONG_QUIET: Duration = Duration::from_mins(1);
/// Black holes that are open at the same time, and as many suspicions.
const MOST: usize = 1000;

/// What makes two losses one black hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub cause: Option<Cause>,
    pub subject: Subject,
}

/// Why packets are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub key: Key,
    pub place: Option<Place>,
    pub summary: String,
    pub finding: Option<Finding>,
}

impl Explanation {
    /// What it says of the node's settings. A packet that was lost before they changed shows no longer why.
    pub fn settings(&self) -> Vec<Evidence> {
        let passing =
            [EvidenceSource::Drop, EvidenceSource::Counter, EvidenceSource::Neighbour, EvidenceSource::Probe];
        let evidence = self.finding.iter().flat_map(|finding| &finding.evidence);
        evidence.filter(|evidence| !passing.contains(&evidence.source)).cloned().collect()
    }
}

/// Packets that were lost since the reading before, or none where the cause still stands all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub explanation: Explanation,
    pub packets: u64,
}

/// What became of a black hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: EventKind,
    pub black_hole: BlackHole,
}

#[derive(Clone, Debug)]
struct Case {
    explanation: Explanation,
    packets: u64,
    /// Readings that showed losses.
    lossy: u32,
    /// Readings since the first, losses or not, at which the cause stood.
    standing: u32,
    last_loss: Duration,
    stands: bool,
    /// Once it is told.
    told: Option<BlackHole>,
}

/// All suspicions and open black holes.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    cases: Vec<Case>,
}

impl Openings {
    /// Takes in one reading at a time since the start, with the wall clock for those who read it. Names are given to
    /// black holes by `name`.
    pub fn advance(
        &mut self,
        now: Duration,
        clock: Timestamp,
        seen: &[Seen],
        name: &mut dyn FnMut() -> String,
    ) -> Vec<Change> {
        for case in &mut self.cases {
            case.stands = false;
        }
        for seen in merged(seen) {
            self.enter(now, seen);
        }
        let mut changes = Vec::new();
        for case in &mut self.cases {
            changes.extend(case.open(clock, name));
        }
        self.cases.retain_mut(|case| match case.close(now, clock) {
            Fate::Kept => true,
            Fate::Forgotten => false,
            Fate::Closed(change) => {
                changes.push(*change);
                false
            }
        });
        changes
    }

    /// Adds to an open black hole's finding, by name, what explains it; nothing changes where nothing does.
    pub fn explain(&mut self, id: &str, explain: &dyn Fn(&mut Finding)) -> Option<Change> {
        let told = self.cases.iter_mut().find_map(|case| case.told.as_mut().filter(|told| told.id == id))?;
        let finding = told.finding.as_mut()?;
        let before = finding.explained_by.len();
        explain(finding);
        let explained = finding.explained_by.len() > before;
        explained.then(|| Change { kind: EventKind::Explained, black_hole: told.clone() })
    }

    /// Those that are open, the one that opened first at the beginning.
    pub fn open(&self) -> Vec<BlackHole> {
        self.cases.iter().filter_map(|case| case.told.clone()).collect()
    }

    /// Whether there is neither a suspicion nor a black hole.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Whether it is a suspicion or a black hole.
    pub fn knows(&self, key: &Key) -> bool {
        self.cases.iter().any(|case| case.explanation.key == *key)
    }

    fn enter(&mut self, now: Duration, seen: Seen) {
        let known = self.cases.iter_mut().find(|case| case.explanation.key == seen.explanation.key);
        if let Some(case) = known {
            case.enter(now, seen.packets);
        } else if seen.packets > 0 && self.cases.len() < 2 * MOST {
            self.cases.push(Case::new(now, seen));
        }
    }
}

/// Each key once.
fn merged(seen: &[Seen]) -> Vec<Seen> {
    let mut merged: Vec<Seen> = Vec::new();
    for one in seen {
        match merged.iter_mut().find(|other| other.explanation.key == one.explanation.key) {
            Some(other) => other.packets += one.packets,
            None => merged.push(one.clone()),
        }
    }
    merged
}

enum Fate {
    Kept,
    Forgotten,
    Closed(Box<Change>),
}

impl Case {
    fn new(now: Duration, seen: Seen) -> Self {
        Self {
            packets: seen.packets,
            explanation: seen.explanation,
            lossy: 1,
            standing: 1,
            last_loss: now,
            stands: true,
            told: None,
        }
    }

    fn enter(&mut self, now: Duration, packets: u64) {
        self.stands = true;
        self.standing += 1;
        if packets > 0 {
            self.packets += packets;
            self.lossy += 1;
            self.last_loss = now;
            if let Some(told) = &mut self.told {
                told.packets = self.packets;
            }
        }
    }

    fn is_black_hole(&self) -> bool {
        match self.explanation.key.cause {
            None => self.lossy >= 2 && self.packets >= MANY,
            Some(cause) if comes_with_restarts(cause) => {
                self.standing >= 2 && (self.packets >= SOME || self.lossy >= 2)
            }
            Some(_) => {
                self.packets >= MANY || self.lossy >= 2 || (self.standing >= 2 && self.packets >= SOME)
            }
        }
    }

    fn open(&mut self, clock: Timestamp, name: &mut dyn FnMut() -> String) -> Option<Change> {
        if self.told.is_some() || !self.is_black_hole() {
            return None;
        }
        let black_hole = BlackHole {
            id: name(),
            opened: clock.to_string(),
            closed: None,
            cause: self.explanation.key.cause,
            subject: self.explanation.key.subject.clone(),
            place: self.explanation.place.clone(),
            summary: self.explanation.summary.clone(),
            packets: self.packets,
            finding: self.explanation.finding.clone(),
        };
        self.told = Some(black_hole.clone());
        Some(Change { kind: EventKind::Opened, black_hole })
    }

    fn close(&self, now: Duration, clock: Timestamp) -> Fate {
        let quiet = now.saturating_sub(self.last_loss);
        match &self.told {
            None if quiet >= PATIENCE || (!self.stands && self.explanation.key.cause.is_some()) => {
                Fate::Forgotten
            }
            Some(told) if quiet >= LONG_QUIET || (quiet >= QUIET && !self.stands) => {
                let black_hole = BlackHole { closed: Some(clock.to_string()), ..told.clone() };
                Fate::Closed(Box::new(Change { kind: EventKind::Closed, black_hole }))
            }
            None | Some(_) => Fate::Kept,
        }
    }
}

/// What a pod's restart looks like for a moment.
fn comes_with_restarts(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::PodRouteMissing | Cause::PodLinkDown | Cause::StalePodRoute | Cause::BorrowedAddress
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::document::SubjectKind;

    fn explained(cause: Option<Cause>) -> Explanation {
        let subject = Subject { kind: SubjectKind::Route, value: "10.200.153.64/26".to_owned() };
        Explanation { key: Key { cause, subject }, place: None, summary: String::new(), finding: None }
    }

    /// What is told when so many packets are lost at each reading, a second apart; `None` is a reading at which the
    /// cause is gone.
    fn told(cause: Option<Cause>, readings: &[Option<u64>]) -> Vec<(usize, EventKind)> {
        let mut openings = Openings::default();
        let mut told = Vec::new();
        for (second, reading) in readings.iter().enumerate() {
            let seen: Vec<Seen> = reading
                .iter()
                .map(|packets| Seen { explanation: explained(cause), packets: *packets })
                .collect();
            let now = Duration::from_secs(second as u64);
            let changes = openings.advance(now, Timestamp::UNIX_EPOCH, &seen, &mut || "1".to_owned());
            told.extend(changes.into_iter().map(|change| (second, change.kind)));
        }
        told
    }

    const ROUTE: Option<Cause> = Some(Cause::BlockRouteMissing);
    const POD: Option<Cause> = Some(Cause::PodRouteMissing);

    #[test]
    fn ten_packets_in_a_second_are_a_black_hole() {
        assert_eq!(told(ROUTE, &[Some(10), None]), [(0, EventKind::Opened)]);
    }

    #[test]
    fn a_packet_a_second_is_one_at_the_second_reading() {
        assert_eq!(told(ROUTE, &[Some(1), Some(1)]), [(1, EventKind::Opened)]);
    }

    #[test]
    fn a_pods_restart_is_none() {
        assert_eq!(told(POD, &[Some(50), None, None, None, None, None, None]), []);
        assert_eq!(told(POD, &[Some(50), Some(0)]), [(1, EventKind::Opened)]);
    }

    #[test]
    fn what_nothing_explains_needs_to_last() {
        assert_eq!(told(None, &[Some(1000), None, None]), []);
        assert_eq!(told(None, &[Some(5), Some(5)]), [(1, EventKind::Opened)]);
    }

    #[test]
    fn it_closes_ten_seconds_after_the_last_packet_once_the_cause_is_gone() {
        let mut readings = vec![Some(20), Some(20), Some(0)];
        readings.extend([None; 10]);
        assert_eq!(told(ROUTE, &readings), [(0, EventKind::Opened), (11, EventKind::Closed)]);
    }

    #[test]
    fn it_stays_open_while_the_cause_stands_though_nobody_sends() {
        let mut readings = vec![Some(20)];
        readings.extend([Some(0); 59]);
        assert_eq!(told(ROUTE, &readings), [(0, EventKind::Opened)]);
    }

    proptest! {
        /// Opened and closed alternate, and no black hole opens without a loss.
        #[test]
        fn opened_and_closed_alternate(
            readings in prop::collection::vec(prop::option::of(0_u64..20), 0..120),
            cause in prop::sample::select(vec![ROUTE, POD, None]),
        ) {
            let kinds: Vec<EventKind> = told(cause, &readings).into_iter().map(|(_, kind)| kind).collect();
            for (number, kind) in kinds.iter().enumerate() {
                let wanted = if number % 2 == 0 { EventKind::Opened } else { EventKind::Closed };
                prop_assert_eq!(*kind, wanted);
            }
            if readings.iter().flatten().sum::<u64>() == 0 {
                prop_assert!(kinds.is_empty());
            }
        }
    }
}
