//! A reset as it was watched: a line for each event, and what it came to.

mod words;

use std::{net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use self::words::{count, dark_words, millis, seconds, time_words};
pub use self::words::{event_document, event_line, start_document, start_line};
use super::{
    document::{Header, Next, Node, NotSeen},
    table::{self, Align},
    text::{QUIET_WIDTH, printable, push, shorten},
};
use crate::{
    causes::reset::{
        ResetPod, calico_pods, pods_of,
        returning::{Bound, Dark, Record, Returning, Thing},
    },
    model::Model,
    sample::{Bird, Fact},
};

/// As many rows as a person reads.
const MOST_ROWS: usize = 30;

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopped {
    AllBack,
    Timeout,
    Interrupted,
}

/// What it came to, raw.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub stopped: Stopped,
    pub start: Timestamp,
    pub followed: Duration,
    pub returning: &'a Returning,
    /// How often the kernel had no room for notifications.
    pub lost: u32,
    pub bird: &'a Fact<Bird>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Returned {
    AllBack,
    Missing,
    /// All that was there before stayed.
    NothingWent,
}

#[derive(Debug, Serialize)]
pub struct FollowDocument {
    pub event: &'static str,
    #[serde(flatten)]
    pub header: Header,
    pub verdict: Returned,
    pub stopped: Stopped,
    pub followed_ms: u64,
    /// Whenever the kernel had no room for notifications, the table was read anew, and times are upper bounds.
    pub notifications_lost: u32,
    /// Blocks of other nodes.
    pub blocks: Vec<Row>,
    /// Blocks of this node.
    pub own_blocks: Vec<Row>,
    pub pods: Vec<Row>,
    pub sessions: Vec<Row>,
    /// Pods that did not come back.
    pub restart: Vec<ResetPod>,
    pub not_seen: Vec<NotSeen>,
    pub next: Vec<Next>,
}

/// One thing that was watched.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// A block, a pod's address, or a peer's.
    pub subject: String,
    /// The nodes to which a block's route led.
    pub peers: Vec<Ipv4Addr>,
    /// `namespace/name`, where it is known.
    pub pod: Option<String>,
    /// Whether it was there before.
    pub expected: bool,
    pub before: String,
    /// Absent where it is away.
    pub now: Option<String>,
    /// Whether it is there by the way that it was.
    pub back: bool,
    /// Whether a pod was deleted, so that its address is not awaited.
    pub ended: bool,
    /// All absences together; absent where it was never away.
    pub dark_ms: Option<u64>,
    pub bound: Option<Bound>,
    pub absences: u32,
    /// When it went first, RFC 3339.
    pub since: Option<String>,
}

impl Row {
    fn new(expected: &Model<'_>, outcome: &Outcome<'_>, thing: &Thing, record: &Record) -> Self {
        let dark = record.dark(outcome.followed);
        let pod = match thing {
            Thing::Pod(address) => expected.pod_name(*address),
            _ => None,
        };
        Self {
            subject: words::subject(thing),
            peers: record.before.next_hops.clone(),
            pod,
            expected: record.expected,
            before: record.before.by.clone(),
            now: record.now.as_ref().map(|now| now.by.clone()),
            back: !record.is_away() && !record.ended,
            ended: record.ended,
            dark_ms: dark.map(|dark| millis(dark.time)),
            bound: dark.map(|dark| dark.bound),
            absences: record.absences,
            since: record.first_gone.map(|gone| time_words(outcome.start + gone)),
        }
    }

    fn dark(&self) -> Option<Dark> {
        Some(Dark { time: Duration::from_millis(self.dark_ms?), bound: self.bound? })
    }

    fn is_missing(&self) -> bool {
        self.expected && !self.back && !self.ended
    }
}

impl FollowDocument {
    /// `expected` is what must be there, `now` this node as following began.
    pub fn new(expected: &Model<'_>, now: &Model<'_>, outcome: &Outcome<'_>) -> Self {
        let rows = |wanted: fn(&Thing) -> bool| -> Vec<Row> {
            let records = outcome.returning.records().iter().filter(|(thing, _)| wanted(thing));
            records.map(|(thing, record)| Row::new(expected, outcome, thing, record)).collect()
        };
        let pods = rows(|thing| matches!(thing, Thing::Pod(_)));
        let is_missing = outcome.returning.missing().next().is_some();
        let went = outcome.returning.has_gone();
        let mut document = Self {
            event: "summary",
            header: Header::new("reset-follow", Timestamp::now().to_string(), Node::of(now)),
            verdict: match (is_missing, went) {
                (true, _) => Returned::Missing,
                (false, true) => Returned::AllBack,
                (false, false) => Returned::NothingWent,
            },
            stopped: outcome.stopped,
            followed_ms: millis(outcome.followed),
            notifications_lost: outcome.lost,
            blocks: rows(|thing| matches!(thing, Thing::Block(_))),
            own_blocks: rows(|thing| matches!(thing, Thing::OwnBlock(_))),
            restart: to_restart(expected, outcome.returning),
            pods,
            sessions: rows(|thing| matches!(thing, Thing::Session(_))),
            not_seen: not_seen(expected, outcome),
            next: Vec::new(),
        };
        document.next = document.next_places(outcome.bird);
        document
    }

    fn all(&self) -> impl Iterator<Item = &Row> {
        self.blocks.iter().chain(&self.own_blocks).chain(&self.pods).chain(&self.sessions)
    }

    fn next_places(&self, bird: &Fact<Bird>) -> Vec<Next> {
        let node = &self.header.node.name;
        let next = |on: &str, command: String| Next { node: on.to_owned(), command };
        let mut places = Vec::new();
        if self.sessions.iter().any(Row::is_missing) {
            if bird.known().is_none() {
                places.push(next("kubectl", calico_pods(node)));
            } else {
                places.push(next(node, "caliprobe peers --bad".to_owned()));
            }
        }
        if self.blocks.iter().chain(&self.own_blocks).chain(&self.pods).any(Row::is_missing) {
            places.push(next(node, "caliprobe check".to_owned()));
        }
        places
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let name = &self.header.node.name;
        let followed = seconds(Duration::from_millis(self.followed_ms));
        let watched = [
            count(self.blocks.iter().filter(|row| row.expected).count(), "block"),
            count(self.pods.iter().filter(|row| row.expected).count(), "pod"),
            count(self.sessions.iter().filter(|row| row.expected).count(), "session"),
        ]
        .join(", ");
        match self.verdict {
            Returned::NothingWent => format!("NOTHING WENT  {name}: {watched} stayed for {followed}"),
            Returned::Missing => {
                let mut missing = self.all().filter(|row| row.is_missing());
                let first = missing.next().map(missing_words).unwrap_or_default();
                match missing.count() {
                    0 => format!("MISSING  {name}: {first}"),
                    more => format!("MISSING  {name}: {first}, and {more} more"),
                }
            }
            Returned::AllBack => format!("ALL BACK  {name}: {}; {watched}", self.darkness()),
        }
    }

    fn darkness(&self) -> String {
        let dark: Vec<Dark> = self.blocks.iter().filter(|row| row.expected).filter_map(Row::dark).collect();
        let Some(longest) = dark.iter().max_by_key(|dark| dark.time) else {
            return "no block was ever dark".to_owned();
        };
        let verb = if dark.len() == 1 { "was" } else { "were" };
        format!("{} {verb} dark, the longest for {}", count(dark.len(), "block"), dark_words(*longest))
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()), QUIET_WIDTH)
    }

    /// What follows the events.
    pub fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.headline());
        self.table(&mut text);
        for pod in &self.restart {
            let bare = if pod.bare == Some(true) { "   # BARE: nobody makes it again" } else { "" };
            push(&mut text, "do", &format!("{}{bare}", pod.run));
        }
        if self.restart.iter().any(|pod| pod.bare.is_none()) {
            push(
                &mut text,
                "risk",
                "a bare pod is gone for good once it is deleted: --facts tells which are",
            );
        }
        for not_seen in &self.not_seen {
            push(&mut text, "?", &format!("not seen: {}: {}", not_seen.what, not_seen.why));
        }
        for next in &self.next {
            push(&mut text, "next", &format!("on {}: {}", next.node, next.command));
        }
        printable(&text)
    }

    /// Blocks, and whatever else was away; what is missing first, then the darkest.
    fn table(&self, text: &mut String) {
        let others = self.own_blocks.iter().chain(&self.pods).chain(&self.sessions);
        let mut rows: Vec<&Row> =
            self.blocks.iter().chain(others.filter(|row| row.dark_ms.is_some() || !row.expected)).collect();
        rows.sort_by_key(|row| (!row.is_missing(), std::cmp::Reverse(row.dark_ms)));
        if rows.is_empty() {
            return;
        }
        let heading = [
            ("what", Align::Left),
            ("peer", Align::Left),
            ("dark for", Align::Right),
            ("since", Align::Left),
            ("now", Align::Left),
        ];
        for line in table::lines(&heading, rows.iter().take(MOST_ROWS).map(|row| cells(row))) {
            text.push_str(&line);
            text.push('\n');
        }
        if rows.len() > MOST_ROWS {
            push(text, "", &format!("{} more; -o json has them all", rows.len() - MOST_ROWS));
        }
    }
}

fn cells(row: &Row) -> Vec<String> {
    let what = row.pod.as_ref().map_or_else(|| row.subject.clone(), |pod| format!("{} {pod}", row.subject));
    let peers: Vec<String> = row.peers.iter().map(Ipv4Addr::to_string).collect();
    let now = match (&row.now, row.ended) {
        (_, true) => "deleted".to_owned(),
        (Some(now), _) if !row.expected => format!("{now}, new"),
        (Some(now), _) if *now == row.before && row.back => "as before".to_owned(),
        (Some(now), _) => format!("{now}, was {}", row.before),
        (None, _) => "AWAY".to_owned(),
    };
    let dark = row.dark().map_or_else(|| "never".to_owned(), dark_words);
    let since = row.since.as_deref().map_or("-", words::clock).to_owned();
    vec![what, if peers.is_empty() { "-".to_owned() } else { peers.join(",") }, dark, since, now]
}

fn missing_words(row: &Row) -> String {
    let away = row.dark().map_or_else(String::new, |dark| format!(" after {}", dark_words(dark)));
    let what = row.pod.as_ref().map_or_else(|| row.subject.clone(), |pod| format!("{} ({pod})", row.subject));
    match &row.now {
        Some(now) => format!("{what} is there {now}, not {}{away}", row.before),
        None if row.before == words::UP => format!("the session to {what} is still down{away}"),
        None => format!("{what} {} is still away{away}", row.before),
    }
}

/// Pods whose addresses nothing leads to any more.
fn to_restart(expected: &Model<'_>, returning: &Returning) -> Vec<ResetPod> {
    let missing: Vec<Ipv4Addr> = returning
        .missing()
        .filter_map(|(thing, _)| match thing {
            Thing::Pod(address) => Some(*address),
            _ => None,
        })
        .collect();
    let is_missing = |pod: &ResetPod| pod.addresses.iter().any(|address| missing.contains(address));
    pods_of(expected).into_iter().filter(is_missing).collect()
}

fn not_seen(expected: &Model<'_>, outcome: &Outcome<'_>) -> Vec<NotSeen> {
    let mut not_seen = Vec::new();
    let mut add = |what: &str, why: String| not_seen.push(NotSeen { what: what.to_owned(), why });
    if let Some(why) = expected.sample.bird.absent() {
        add("which BGP sessions there were", why.to_owned());
    }
    match outcome.bird {
        Fact::Absent(why) => add("BGP sessions", why.clone()),
        Fact::Known(bird) if bird.recovering => add(
            "what BIRD will write",
            "it recovers from its restart and writes no route until every peer has answered, at most 240 s"
                .to_owned(),
        ),
        Fact::Known(_) => {}
    }
    if outcome.lost > 0 {
        let times = if outcome.lost == 1 { "once".to_owned() } else { format!("{} times", outcome.lost) };
        add(
            "each change of the routes",
            format!(
                "the kernel had no room for notifications {times}: what went and returned meanwhile is not among these"
            ),
        );
    }
    add("whether pods answer", "routes and sessions were followed, nothing was sent".to_owned());
    not_seen
}

#[cfg(test)]
mod tests;
