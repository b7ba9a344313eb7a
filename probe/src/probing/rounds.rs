//! What to send next, when what was sent before raises a question: how many are lost, which size still passes.

use std::collections::BTreeSet;

use crate::observation::{ENOUGH_FOR_A_RATE, ProbeOutcome, Series};

/// How many more than the first a sender may come to send.
pub const MOST_MORE: usize = ENOUGH_FOR_A_RATE;
/// The IPv4 header and the ICMP header with a mark, rounded up: nothing smaller is tried.
const SMALLEST: u16 = 68;
/// Sizes that MTUs of networks leave: Ethernet, less one to four tunnels of the usual kinds, DSL, and the least that
/// IPv6 and old hosts allow.
const USUAL_SIZES: [u16; 17] =
    [8980, 4000, 1500, 1480, 1460, 1450, 1440, 1430, 1420, 1410, 1400, 1380, 1350, 1300, 1280, 1200, 576];
/// Sizes that narrow a gap in one round.
const NARROWING: u16 = 20;
/// Large probes that must be lost before that is not chance.
const LOSSES: usize = 3;
/// Rounds of sizes: the first, one that asks again and narrows, one that follows what was told.
const MOST_SIZES: usize = 3 * USUAL_SIZES.len();

/// The sizes that are tried first on a path whose sender's device has this MTU.
pub fn first_sizes(mtu: u16) -> Vec<Option<u16>> {
    let usual = USUAL_SIZES.into_iter().filter(|size| *size < mtu);
    [mtu].into_iter().chain(usual).filter(|size| *size >= SMALLEST).map(Some).collect()
}

/// The next probes of a series, by what became of those before; none where nothing more is to be learned.
pub fn next(series: Series, outcomes: &[&ProbeOutcome]) -> Vec<Option<u16>> {
    match series {
        Series::Asked => more(outcomes),
        Series::Echo => Vec::new(),
        Series::Sizes => sizes(outcomes),
    }
}

/// Enough for a rate, where some are lost and some are not.
fn more(outcomes: &[&ProbeOutcome]) -> Vec<Option<u16>> {
    let lost = outcomes.iter().filter(|probe| probe.round_trip_us.is_none()).count();
    if lost == 0 || lost == outcomes.len() {
        return Vec::new();
    }
    vec![None; ENOUGH_FOR_A_RATE.saturating_sub(outcomes.len())]
}

/// Asks again for the smallest and the largest that were lost without a word, because the first may have taught a
/// router or the kernel the path's MTU; between what passes and what does not; and for what was told to fit.
fn sizes(outcomes: &[&ProbeOutcome]) -> Vec<Option<u16>> {
    let sizes_of = |wanted: fn(&ProbeOutcome) -> bool| -> BTreeSet<u16> {
        outcomes.iter().filter(|probe| wanted(probe)).filter_map(|probe| probe.size).collect()
    };
    let passed = sizes_of(|probe| probe.round_trip_us.is_some());
    let Some(largest) = passed.last().copied() else { return Vec::new() };
    let tried = sizes_of(|_| true);
    let answered = sizes_of(|probe| probe.round_trip_us.is_some() || probe.told_mtu.is_some());
    let mut next: BTreeSet<u16> = outcomes.iter().filter_map(|probe| probe.told_mtu).collect();
    let losses: Vec<u16> = outcomes
        .iter()
        .filter(|probe| {
            probe.round_trip_us.is_none() && probe.told_mtu.is_none() && probe.send_error.is_none()
        })
        .filter_map(|probe| probe.size)
        .filter(|size| *size > largest && !answered.contains(size))
        .collect();
    if let (Some(first), Some(last)) = (losses.iter().min().copied(), losses.iter().max().copied()) {
        next.extend(gap(largest, first));
        next.retain(|size| !tried.contains(size));
        if losses.iter().filter(|size| **size == first).count() < 2 || losses.len() < LOSSES {
            next.extend([first, last]);
        }
    } else {
        next.retain(|size| !tried.contains(size));
    }
    if outcomes.len() >= MOST_SIZES {
        return Vec::new();
    }
    next.into_iter().rev().filter(|size| *size >= SMALLEST).map(Some).collect()
}

/// Sizes evenly between two.
fn gap(passed: u16, lost: u16) -> Vec<u16> {
    let step = (lost - passed).div_ceil(NARROWING).max(1);
    (passed + 1..lost).filter(|size| (lost - size).is_multiple_of(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(size: u16, passed: bool, told_mtu: Option<u16>) -> ProbeOutcome {
        ProbeOutcome {
            size: Some(size),
            round_trip_us: passed.then_some(9),
            told_mtu,
            ..ProbeOutcome::default()
        }
    }

    fn next_sizes(outcomes: &[ProbeOutcome]) -> Vec<u16> {
        next(Series::Sizes, &outcomes.iter().collect::<Vec<_>>()).into_iter().flatten().collect()
    }

    #[test]
    fn where_all_pass_nothing_more_is_sent() {
        assert!(next_sizes(&[probe(1480, true, None), probe(1400, true, None)]).is_empty());
        assert!(next_sizes(&[probe(1480, false, None), probe(1400, false, None)]).is_empty());
    }

    #[test]
    fn the_gap_between_what_passes_and_what_does_not_is_narrowed_and_its_end_asked_twice() {
        let mut outcomes = vec![probe(1480, false, None), probe(1460, false, None), probe(1450, true, None)];
        let again = next_sizes(&outcomes);
        assert_eq!(again, [1480, 1460, 1459, 1458, 1457, 1456, 1455, 1454, 1453, 1452, 1451]);
        outcomes.extend(again.iter().map(|size| probe(*size, *size <= 1452, None)));
        let again = next_sizes(&outcomes);
        assert_eq!(again, [1480, 1453]);
        outcomes.extend(again.iter().map(|size| probe(*size, false, None)));
        assert!(next_sizes(&outcomes).is_empty());
    }

    #[test]
    fn what_was_told_to_fit_is_tried() {
        let outcomes = [probe(1480, false, Some(1432)), probe(1430, true, None)];
        assert_eq!(next_sizes(&outcomes), [1432]);
    }

    #[test]
    fn a_rate_is_measured_where_some_are_lost() {
        let outcomes = |lost: usize| -> Vec<ProbeOutcome> {
            (0..3).map(|number| probe(0, number >= lost, None)).collect()
        };
        let count = |lost| next(Series::Asked, &outcomes(lost).iter().collect::<Vec<_>>()).len();
        assert_eq!([count(0), count(1), count(3)], [0, 9, 0]);
    }
}
