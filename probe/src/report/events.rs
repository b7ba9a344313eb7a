//! Events as a person reads them.

use super::black_hole::cause_words;
use crate::state::{Event, EventKind};

/// One event in one line.
pub fn line(event: &Event) -> String {
    let black_hole = &event.black_hole;
    let cause = cause_words(black_hole);
    let packets = black_hole.packets;
    let line = format!(
        "{}  {:<9}  {}  {}: {}  ({packets} {} lost so far)",
        event.time,
        word(event.kind),
        cause,
        black_hole.subject.value,
        black_hole.summary,
        if packets == 1 { "packet" } else { "packets" }
    );
    line.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The kind as the documents carry it.
pub fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Opened => "opened",
        EventKind::Explained => "explained",
        EventKind::Closed => "closed",
    }
}
