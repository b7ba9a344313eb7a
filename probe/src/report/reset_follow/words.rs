//! Times, things and events as they are printed.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::{
    causes::reset::returning::{Bound, Dark, Event, Happened, Returning, Thing},
    report::text::printable,
};

/// How an established session is written.
pub(super) const UP: &str = "Established";

/// RFC 3339, to the millisecond.
pub(super) fn time_words(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The time of day of an RFC 3339 time in UTC.
pub(super) fn clock(time: &str) -> &str {
    time.split_once('T').map_or(time, |(_, clock)| clock)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{}.{:03} s", duration.as_secs(), duration.subsec_millis())
}

pub(super) fn dark_words(dark: Dark) -> String {
    let time = seconds(dark.time);
    match dark.bound {
        Bound::Exact => time,
        Bound::AtMost => format!("at most {time}"),
        Bound::AtLeast => format!("at least {time}"),
    }
}

pub(super) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

pub(super) fn subject(thing: &Thing) -> String {
    match thing {
        Thing::Block(block) | Thing::OwnBlock(block) => block.to_string(),
        Thing::Pod(address) | Thing::Session(address) => address.to_string(),
    }
}

fn kind(thing: &Thing) -> &'static str {
    match thing {
        Thing::Block(_) => "block",
        Thing::OwnBlock(_) => "own-block",
        Thing::Pod(_) => "pod",
        Thing::Session(_) => "session",
    }
}

fn word(happened: &Happened) -> &'static str {
    match happened {
        Happened::Gone => "gone",
        Happened::Back(_) => "back",
        Happened::Changed(_) => "changed",
        Happened::Bare => "bare",
        Happened::New => "new",
        Happened::Ended => "ended",
        Happened::Again => "again",
    }
}

fn counts(returning: &Returning) -> [(&'static str, usize); 4] {
    let of = |wanted: fn(&Thing) -> bool| {
        returning.records().iter().filter(|(thing, record)| record.expected && wanted(thing)).count()
    };
    [
        ("blocks", of(|thing| matches!(thing, Thing::Block(_)))),
        ("own_blocks", of(|thing| matches!(thing, Thing::OwnBlock(_)))),
        ("pods", of(|thing| matches!(thing, Thing::Pod(_)))),
        ("sessions", of(|thing| matches!(thing, Thing::Session(_)))),
    ]
}

/// What is followed, in one line.
pub fn start_line(node: &str, returning: &Returning) -> String {
    let [blocks, own, pods, sessions] = counts(returning).map(|(_, count)| count);
    let words =
        [count(blocks, "block"), count(own, "own block"), count(pods, "pod"), count(sessions, "session")];
    printable(&format!("FOLLOWING  {node}: {}; make the reset now", words.join(", ")))
}

/// The same as a line of JSON.
pub fn start_document(time: &Timestamp, returning: &Returning) -> String {
    let mut document = json!({ "event": "following", "time": time_words(*time) });
    for (name, count) in counts(returning) {
        document[name] = count.into();
    }
    document.to_string()
}

/// An event in one line.
pub fn event_line(time: Timestamp, event: &Event) -> String {
    let Event { thing, happened, by, .. } = event;
    let time = time_words(time);
    let head = format!("{}  {:<7}  {} {}", clock(&time), word(happened), kind(thing), subject(thing));
    let line = match happened {
        Happened::Back(dark) => format!("{head} {by} after {}", dark_words(*dark)),
        Happened::Changed(was) => format!("{head} {by}, was {was}"),
        Happened::Bare => format!("{head} {by}: not encapsulated, and so not back"),
        Happened::Ended => format!("{head} {by}: the pod was deleted"),
        Happened::Gone | Happened::New | Happened::Again => format!("{head} {by}"),
    };
    printable(&line).replace('\n', " ")
}

/// The same as a line of JSON.
pub fn event_document(time: Timestamp, event: &Event) -> String {
    let Event { at, thing, happened, by } = event;
    let mut document = json!({
        "event": word(happened),
        "time": time_words(time),
        "at_ms": millis(*at),
        "kind": kind(thing),
        "subject": subject(thing),
        "by": by,
    });
    match happened {
        Happened::Back(dark) => {
            document["dark_ms"] = millis(dark.time).into();
            document["bound"] = json!(dark.bound);
        }
        Happened::Changed(was) => document["was"] = was.as_str().into(),
        _ => {}
    }
    document.to_string()
}
