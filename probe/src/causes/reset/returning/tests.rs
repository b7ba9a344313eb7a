use proptest::prelude::*;

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn block() -> Thing {
    Thing::Block("10.200.153.64/26".parse().unwrap())
}

fn tunnelled(node: u8) -> Passage {
    let address = Ipv4Addr::new(172, 30, 10, node);
    Passage { by: format!("via {address} dev tunl0"), next_hops: vec![address], tunnelled: true }
}

fn returning() -> Returning {
    let mut returning = Returning::default();
    returning.expect(block(), tunnelled(187));
    returning
}

fn exact(at: u64) -> Moment {
    Moment::exact(millis(at))
}

fn happened(event: Option<Event>) -> Happened {
    event.unwrap().happened
}

#[test]
fn a_block_that_goes_and_returns_was_dark_in_between() {
    let mut returning = returning();
    assert!(!returning.has_gone());
    assert_eq!(happened(returning.see(exact(1_000), &block(), None)), Happened::Gone);
    assert_eq!(returning.missing().count(), 1);
    let dark = Dark { time: millis(2_555), bound: Bound::Exact };
    assert_eq!(happened(returning.see(exact(3_555), &block(), Some(&tunnelled(187)))), Happened::Back(dark));
    assert_eq!((returning.missing().count(), returning.has_gone()), (0, true));
    assert_eq!(returning.records()[&block()].dark(millis(9_000)), Some(dark));
    assert_eq!(returning.records()[&block()].first_gone, Some(millis(1_000)));
}

#[test]
fn a_block_that_stays_was_never_dark() {
    let mut returning = returning();
    assert_eq!(returning.see(exact(1_000), &block(), Some(&tunnelled(187))), None);
    assert_eq!(returning.records()[&block()].dark(millis(9_000)), None);
}

#[test]
fn another_next_hop_is_said_and_is_no_darkness() {
    let mut returning = returning();
    let event = returning.see(exact(1_000), &block(), Some(&tunnelled(186)));
    assert_eq!(happened(event), Happened::Changed("via 172.30.10.187 dev tunl0".to_owned()));
    assert_eq!(returning.missing().count(), 0);
}

#[test]
fn a_block_that_returns_without_encapsulation_is_not_back() {
    let mut returning = returning();
    let bare = Passage { by: "via 172.30.10.187 dev eth0".to_owned(), tunnelled: false, ..tunnelled(187) };
    returning.see(exact(1_000), &block(), None);
    assert_eq!(happened(returning.see(exact(2_000), &block(), Some(&bare))), Happened::Bare);
    assert_eq!(returning.see(exact(2_500), &block(), Some(&bare)), None);
    assert_eq!(returning.missing().count(), 1);
    let dark = Dark { time: millis(2_000), bound: Bound::Exact };
    assert_eq!(happened(returning.see(exact(3_000), &block(), Some(&tunnelled(187)))), Happened::Back(dark));
}

#[test]
fn what_happens_between_two_looks_is_an_upper_bound() {
    let mut returning = returning();
    returning.see(Moment::between(millis(500), millis(1_000)), &block(), None);
    let back = returning.see(Moment::between(millis(1_500), millis(2_000)), &block(), Some(&tunnelled(187)));
    assert_eq!(happened(back), Happened::Back(Dark { time: millis(1_500), bound: Bound::AtMost }));
}

#[test]
fn what_was_away_from_the_start_is_a_lower_bound() {
    let mut returning = returning();
    returning.see(Moment::at_the_start(), &block(), None);
    let back = returning.see(exact(700), &block(), Some(&tunnelled(187)));
    assert_eq!(happened(back), Happened::Back(Dark { time: millis(700), bound: Bound::AtLeast }));
}

#[test]
fn a_new_block_is_said_and_not_awaited() {
    let mut returning = Returning::default();
    assert_eq!(happened(returning.see(exact(1), &block(), Some(&tunnelled(187)))), Happened::New);
    assert_eq!(happened(returning.see(exact(2), &block(), None)), Happened::Gone);
    assert_eq!((returning.missing().count(), returning.has_gone()), (0, false));
}

#[test]
fn a_pod_that_ended_is_not_awaited() {
    let mut returning = Returning::default();
    let pod = Thing::Pod(Ipv4Addr::new(10, 200, 55, 193));
    returning.expect(pod.clone(), Passage::by("dev cali1"));
    returning.see(exact(10), &pod, None);
    assert_eq!(happened(returning.end(millis(30), &pod)), Happened::Ended);
    assert_eq!(returning.missing().count(), 0);
    assert_eq!(returning.see(exact(40), &pod, None), None);
}

#[test]
fn a_change_touches_what_lies_within() {
    let mut returning = returning();
    returning.expect(Thing::Pod(Ipv4Addr::new(10, 200, 55, 193)), Passage::by("dev cali1"));
    returning.expect(Thing::Session(Ipv4Addr::new(10, 200, 153, 65)), Passage::by("Established"));
    let within = |destination: &str| returning.within(destination.parse().unwrap());
    assert_eq!(within("10.200.153.64/26"), [block()]);
    assert_eq!(within("10.200.153.64/27"), []);
    assert_eq!(within("10.200.0.0/16").len(), 2);
    assert_eq!(within("10.200.55.193/32").len(), 1);
}

/// Away or there at each of some milliseconds; the naive way to the time is to count them.
fn counted(states: &[bool], end: usize) -> u64 {
    (0..end).filter(|at| !states[*at]).count() as u64
}

proptest! {
    #[test]
    fn the_time_in_the_dark_is_what_counting_gives(
        states in prop::collection::vec(any::<bool>(), 1..200),
        repeats in any::<bool>(),
    ) {
        let mut returning = returning();
        let mut was = true;
        let mut reported = 0;
        for (at, is_there) in states.iter().enumerate() {
            if repeats || *is_there != was {
                let passage = is_there.then(|| tunnelled(187));
                let event = returning.see(exact(at as u64), &block(), passage.as_ref());
                prop_assert_eq!(event.is_some(), *is_there != was);
                if let Some(Event { happened: Happened::Back(dark), .. }) = event {
                    reported += u64::try_from(dark.time.as_millis()).unwrap();
                }
            }
            was = *is_there;
        }
        let end = states.len() - 1;
        let record = &returning.records()[&block()];
        let dark = record.dark(millis(end as u64)).map_or(0, |dark| dark.time.as_millis());
        prop_assert_eq!(dark, u128::from(counted(&states, end)));
        prop_assert_eq!(record.is_away(), !was);
        let last_run = states.iter().rev().take_while(|is_there| !**is_there).count() as u64;
        let open = last_run.saturating_sub(1);
        prop_assert_eq!(reported + if was { 0 } else { open }, counted(&states, end));
    }

    #[test]
    fn a_look_that_comes_late_never_makes_it_shorter(
        times in prop::collection::vec((0u64..50, 0u64..50), 1..40),
    ) {
        let (mut seen, mut late) = (returning(), returning());
        let (mut now, mut is_there) = (0, true);
        for (pause, delay) in times {
            let at = now + pause;
            is_there = !is_there;
            let passage = is_there.then(|| tunnelled(187));
            seen.see(exact(at), &block(), passage.as_ref());
            late.see(Moment::between(millis(now), millis(at + delay)), &block(), passage.as_ref());
            now = at + delay;
        }
        let dark = |returning: &Returning| returning.records()[&block()].dark(millis(now)).unwrap().time;
        prop_assert!(dark(&late) >= dark(&seen));
    }
}
