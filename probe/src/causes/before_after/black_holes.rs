//! Black holes that a running probe had open then and has open now.

use super::{Change, Happened, Meaning};
use crate::{
    model::Model,
    sample::{Ledger, Sample},
    state::BlackHole,
};

/// What `check` says of the same thing is not said twice.
pub fn judge(before: &Model<'_>, after: &Model<'_>, said: &[Change]) -> Vec<Change> {
    let (was, is) = (open(before.sample), open(after.sample));
    let mut changes: Vec<Change> = is
        .iter()
        .map(|hole| {
            if was.iter().any(|other| are_one(hole, other)) || opened_before(hole, before.sample) {
                change(Happened::Stayed, Meaning::Dark, hole)
            } else if before.sample.ledger.known().is_some() || counts_since(after.sample, before.sample) {
                change(Happened::Came, Meaning::Regression, hole)
            } else {
                change(Happened::Came, Meaning::Unknown, hole)
            }
        })
        .collect();
    if after.sample.ledger.known().is_some() {
        let healed = was.iter().filter(|hole| !is.iter().any(|other| are_one(hole, other)));
        changes.extend(healed.map(|hole| change(Happened::Went, Meaning::Healed, hole)));
    }
    changes.retain(|change| !said.iter().any(|other| other.is_of_same(change)));
    changes
}

fn open(sample: &Sample) -> &[BlackHole] {
    let ledger: Option<&Ledger> = sample.ledger.known();
    ledger.map_or(&[], |ledger| &ledger.black_holes)
}

fn are_one(one: &BlackHole, other: &BlackHole) -> bool {
    one.id == other.id || (one.cause == other.cause && one.subject == other.subject)
}

/// The daemon may run since before both looks.
fn opened_before(hole: &BlackHole, sample: &Sample) -> bool {
    is_before(&hole.opened, &sample.time)
}

/// Whether who counted then did so already at the time of another sample, and would have seen it open.
fn counts_since(counted: &Sample, other: &Sample) -> bool {
    let readings = counted.ledger.known().map_or(&[][..], |ledger| &ledger.readings);
    let mut links = readings.iter().flat_map(|reading| &reading.links);
    links.any(|link| link.covered_since.as_deref().is_some_and(|since| is_before(since, &other.time)))
}

fn is_before(earlier: &str, later: &str) -> bool {
    let parsed = |text: &str| text.parse::<jiff::Timestamp>().ok();
    matches!((parsed(earlier), parsed(later)), (Some(earlier), Some(later)) if earlier <= later)
}

fn change(happened: Happened, meaning: Meaning, hole: &BlackHole) -> Change {
    let subject = (hole.subject.kind, hole.subject.value.clone());
    let summary = format!("{} ({} packets lost since {})", hole.summary, hole.packets, hole.opened);
    let finding = hole.finding.clone();
    Change { finding, ..Change::new((happened, meaning), subject, summary) }
}
