//! What must be there again after a reset, and for how long each of it was away. Pure: what is seen is handed in with
//! its time since the start, which a monotonic clock gives.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::model::{Model, rows::TABLE_MAIN};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// A block of another node, or a single address of one.
    Block(Ipv4Net),
    /// A block of this node: BIRD announces it as long as its blackhole is there.
    OwnBlock(Ipv4Net),
    /// A pod of this node.
    Pod(Ipv4Addr),
    /// The BGP session to another node.
    Session(Ipv4Addr),
}

/// How a thing is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// As a person reads it: `via 172.30.10.187 dev tunl0`.
    pub by: String,
    pub next_hops: Vec<Ipv4Addr>,
    pub tunnelled: bool,
}

impl Passage {
    pub fn by(words: impl Into<String>) -> Self {
        Self { by: words.into(), next_hops: Vec::new(), tunnelled: false }
    }
}

/// When something happened, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// It had not happened before.
    pub earliest: Duration,
    /// It had happened then.
    pub latest: Duration,
    pub bound: Bound,
}

/// How far a time can be trusted; the worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// It was seen as it happened.
    Exact,
    /// It happened between two looks.
    AtMost,
    /// It had begun before anybody looked.
    AtLeast,
}

impl Moment {
    /// Seen as it happened.
    pub fn exact(at: Duration) -> Self {
        Self { earliest: at, latest: at, bound: Bound::Exact }
    }

    /// Between two looks.
    pub fn between(earliest: Duration, latest: Duration) -> Self {
        Self { earliest, latest, bound: Bound::AtMost }
    }

    /// Away already at the start.
    pub fn at_the_start() -> Self {
        Self { earliest: Duration::ZERO, latest: Duration::ZERO, bound: Bound::AtLeast }
    }
}

/// For how long something was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dark {
    pub time: Duration,
    pub bound: Bound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    Gone,
    /// This absence has ended.
    Back(Dark),
    /// Reached another way than before, with what it was.
    Changed(String),
    /// A route of other nodes' pods leaves without encapsulation, which went through the tunnel before.
    Bare,
    /// It was not there before.
    New,
    /// A pod that was deleted: its address is not awaited.
    Ended,
    /// A session that was set up anew while nobody looked.
    Again,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub thing: Thing,
    pub happened: Happened,
    /// How it is reached now, or was before it went.
    pub by: String,
}

/// One thing, from the start to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whether it was there before the reset.
    pub expected: bool,
    pub before: Passage,
    /// As it is reached now.
    pub now: Option<Passage>,
    /// Its first absence.
    pub first_gone: Option<Duration>,
    pub absences: u32,
    away_since: Option<Moment>,
    dark: Dark,
    pub ended: bool,
}

impl Record {
    fn new(before: Passage, expected: bool) -> Self {
        Self {
            expected,
            now: Some(before.clone()),
            before,
            first_gone: None,
            absences: 0,
            away_since: None,
            dark: Dark { time: Duration::ZERO, bound: Bound::Exact },
            ended: false,
        }
    }

    pub fn is_away(&self) -> bool {
        self.away_since.is_some()
    }

    /// All its absences together, one that lasts up to now; `None` where it was never away.
    pub fn dark(&self, now: Duration) -> Option<Dark> {
        (self.absences > 0).then(|| match self.away_since {
            Some(since) => add(self.dark, absence(since, Moment::exact(now))),
            None => self.dark,
        })
    }
}

fn absence(gone: Moment, back: Moment) -> Dark {
    Dark { time: back.latest.saturating_sub(gone.earliest), bound: gone.bound.max(back.bound) }
}

fn add(one: Dark, other: Dark) -> Dark {
    Dark { time: one.time + other.time, bound: one.bound.max(other.bound) }
}

/// Everything that is watched.
#[derive(Clone, Debug, Default)]
pub struct Returning {
    records: BTreeMap<Thing, Record>,
    has_gone: bool,
}

impl Returning {
    /// What is there before the reset.
    pub fn of(model: &Model<'_>, passage: impl Fn(&Thing) -> Option<Passage>) -> Self {
        let mut returning = Self::default();
        for thing in expected(model) {
            if let Some(passage) = passage(&thing) {
                returning.expect(thing, passage);
            }
        }
        for session in model.sample.bird.known().into_iter().flat_map(|bird| &bird.sessions) {
            if session.established {
                returning.expect(Thing::Session(session.peer), Passage::by("Established"));
            }
        }
        returning
    }

    /// Has to be there again in the end.
    pub fn expect(&mut self, thing: Thing, passage: Passage) {
        self.records.insert(thing, Record::new(passage, true));
    }

    /// Takes in how a thing is reached at a moment.
    pub fn see(&mut self, at: Moment, thing: &Thing, passage: Option<&Passage>) -> Option<Event> {
        let event = |happened, by: &str| {
            Some(Event { at: at.latest, thing: thing.clone(), happened, by: by.to_owned() })
        };
        let Some(record) = self.records.get_mut(thing) else {
            let passage = passage?;
            self.records.insert(thing.clone(), Record::new(passage.clone(), false));
            return event(Happened::New, &passage.by);
        };
        let was = std::mem::replace(&mut record.now, passage.cloned());
        let Some(passage) = passage else {
            return self.gone(at, thing, was.as_ref());
        };
        let record = self.records.get_mut(thing)?;
        record.ended = false;
        if record.before.tunnelled && !passage.tunnelled {
            let is_news = was.as_ref() != Some(passage);
            self.gone(at, thing, None);
            return if is_news { event(Happened::Bare, &passage.by) } else { None };
        }
        if let Some(since) = record.away_since.take() {
            let dark = absence(since, at);
            record.dark = add(record.dark, dark);
            return event(Happened::Back(dark), &passage.by);
        }
        match was {
            Some(was) if was != *passage => event(Happened::Changed(was.by), &passage.by),
            _ => None,
        }
    }

    fn gone(&mut self, at: Moment, thing: &Thing, was: Option<&Passage>) -> Option<Event> {
        let record = self.records.get_mut(thing)?;
        if record.away_since.is_some() || record.ended {
            return None;
        }
        record.away_since = Some(at);
        record.absences += 1;
        record.first_gone.get_or_insert(at.earliest);
        self.has_gone |= record.expected;
        let by = was.unwrap_or(&record.before).by.clone();
        Some(Event { at: at.latest, thing: thing.clone(), happened: Happened::Gone, by })
    }

    /// A session that was set up anew since the last look.
    pub fn again(&mut self, at: Duration, thing: &Thing, by: &str) -> Option<Event> {
        self.records.get(thing)?;
        self.has_gone = true;
        Some(Event { at, thing: thing.clone(), happened: Happened::Again, by: by.to_owned() })
    }

    /// A pod that was deleted: the one that takes its place has another address.
    pub fn end(&mut self, at: Duration, thing: &Thing) -> Option<Event> {
        let record = self.records.get_mut(thing)?;
        let since = record.away_since.take()?;
        record.dark = add(record.dark, absence(since, Moment::exact(at)));
        record.ended = true;
        Some(Event { at, thing: thing.clone(), happened: Happened::Ended, by: record.before.by.clone() })
    }

    pub fn records(&self) -> &BTreeMap<Thing, Record> {
        &self.records
    }

    /// Things that a route to this destination may lead to: it holds them as a whole.
    pub fn within(&self, destination: Ipv4Net) -> Vec<Thing> {
        let (first, last) = (destination.network(), destination.broadcast());
        let net = |address, length| Ipv4Net::new_assert(address, length);
        let blocks = self.records.range(Thing::Block(net(first, 0))..=Thing::Block(net(last, 32)));
        let own = self.records.range(Thing::OwnBlock(net(first, 0))..=Thing::OwnBlock(net(last, 32)));
        let pods = self.records.range(Thing::Pod(first)..=Thing::Pod(last));
        let held = |thing: &&Thing| match thing {
            Thing::Block(block) | Thing::OwnBlock(block) => destination.contains(block),
            _ => true,
        };
        blocks.chain(own).chain(pods).map(|(thing, _)| thing).filter(held).cloned().collect()
    }

    /// What was there before and is not now.
    pub fn missing(&self) -> impl Iterator<Item = (&Thing, &Record)> {
        self.records.iter().filter(|(_, record)| record.expected && record.is_away())
    }

    /// Whether anything was away since the start, or since the snapshot of before.
    pub fn has_gone(&self) -> bool {
        self.has_gone
    }
}

/// The routes of the main table that a reset may take away.
fn expected(model: &Model<'_>) -> Vec<Thing> {
    let blocks = model.remote_blocks().iter().map(|block| block.route);
    let blocks =
        blocks.filter(|route| route.table == TABLE_MAIN).map(|route| Thing::Block(route.destination));
    let own = model.own_blocks().iter().filter(|route| route.table == TABLE_MAIN);
    let own = own.map(|route| Thing::OwnBlock(route.destination));
    let pods = model.pods().iter().filter(|pod| pod.route.table == TABLE_MAIN);
    blocks.chain(own).chain(pods.map(|pod| Thing::Pod(pod.address))).collect()
}

#[cfg(test)]
mod tests;
