//! Devices whose error counters rise.

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding},
    model::{Model, underlay},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Link, LinkStatistics, Part, Sample},
};

/// One counter of a device.
type Counter = fn(&LinkStatistics) -> u64;

/// The counters that tell of lost packets, and how the kernel names them (`ip -s -s link`).
const COUNTERS: [(&str, Counter); 5] = [
    ("rx_errors", |statistics| statistics.rx_errors),
    ("tx_errors", |statistics| statistics.tx_errors),
    ("rx_missed_errors", |statistics| statistics.rx_missed_errors),
    ("tx_dropped", |statistics| statistics.tx_dropped),
    ("tx_carrier_errors", |statistics| statistics.tx_carrier_errors),
];

/// Fewer are ordinary noise.
const MANY: u64 = 10;

pub fn review(model: &Model<'_>, earlier: Option<&Sample>) -> Review {
    let mut review = Review::of(Topic::Interfaces);
    if !model.sample.holds(Part::LinkStatistics) {
        review.unseen("the devices' error counters", "they were not shown: ip -s link");
        return review;
    }
    let Some(earlier) = earlier else {
        if has_errors(model) {
            review.unseen("whether error counters rise", "one look does not show it");
        } else {
            review.pass("no error counter of the path's devices is above zero");
        }
        return review;
    };
    review.found(path(model).into_iter().filter_map(|link| rising(model, earlier, link)));
    if review.findings.is_empty() {
        review.pass("no error counter of the path's devices rises");
    }
    review
}

/// Whether any counter is above zero, so that a second look is worth its time.
pub fn has_errors(model: &Model<'_>) -> bool {
    path(model)
        .into_iter()
        .flat_map(|link| COUNTERS.map(|(_, counter)| counter(&link.statistics)))
        .any(|value| value > 0)
}

/// The devices that encapsulated packets leave by. What `tunl0` and pods' devices refuse has causes of its own.
fn path<'a>(model: &Model<'a>) -> Vec<&'a Link> {
    underlay::links(model).into_iter().filter_map(|index| model.link(index)).collect()
}

fn rising(model: &Model<'_>, earlier: &Sample, link: &Link) -> Option<Finding> {
    let before = earlier.links.iter().find(|other| other.index == link.index && other.name == link.name)?;
    let rises: Vec<(&str, u64, u64)> = COUNTERS
        .into_iter()
        .filter_map(|(name, counter)| {
            let (was, is) = (counter(&before.statistics), counter(&link.statistics));
            is.checked_sub(was).filter(|rise| *rise > 0).map(|rise| (name, rise, is))
        })
        .collect();
    let (name, rise, _) = *rises.first()?;
    let summary = format!("{name} of {} rises: {rise} while this check looked", link.name);
    let found = finding(Cause::NicDrops, SubjectKind::Interface, &link.name, summary)
        .inferred()
        .with_severity(if rise >= MANY { Severity::Warning } else { Severity::Info });
    let found = rises.iter().fold(found, |found, (name, rise, is)| {
        found.with(EvidenceSource::Counter, format!("{} {name} rose by {rise} to {is}", link.name))
    });
    Some(
        found.confirm(
            model.node_name(),
            format!("ip -s -s link show {}; ethtool -S {}", link.name, link.name),
        ),
    )
}
