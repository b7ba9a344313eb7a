//! Nodes are looked at one after another: what differs between two of them may have changed in between.

use jiff::{Timestamp, Unit};

use super::{Node, Seen};
use crate::report::document::{EvidenceSource, Finding};

/// Seconds within which snapshots of a whole cluster are taken, and for longer than which no route is on its way.
const ONE_MOMENT: i64 = 60;

impl Finding {
    /// Says it where a difference between two nodes may be only time; then it is inferred.
    pub(super) fn between(self, one: &Node, other: &Node) -> Self {
        match apart(one, other) {
            Some(words) => self.inferred().with(EvidenceSource::File, words),
            None => self,
        }
    }
}

/// What keeps two nodes from being of one moment, in words.
fn apart(one: &Node, other: &Node) -> Option<String> {
    let (Seen::Saved { time: first, .. }, Seen::Saved { time: second, .. }) = (&one.seen, &other.seen) else {
        return Some(format!(
            "when {} and {} were looked at is not shown: what changed in between looks like this too",
            one.name, other.name
        ));
    };
    let seconds = first.duration_since(*second).as_secs().abs();
    (seconds > ONE_MOMENT).then(|| {
        format!(
            "{} at {}, {} at {}: what changed in these {} looks like this too",
            one.name,
            whole_seconds(*first),
            other.name,
            whole_seconds(*second),
            length(seconds)
        )
    })
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

fn length(seconds: i64) -> String {
    let words = |count: i64, unit: &str| format!("{count} {unit}");
    match seconds {
        0..120 => words(seconds, "s"),
        120..7200 => words(seconds / 60, "min"),
        7200..172_800 => words(seconds / 3600, "h"),
        _ => words(seconds / 86_400, "days"),
    }
}
