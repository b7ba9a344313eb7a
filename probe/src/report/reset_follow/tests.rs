use super::*;
use crate::{
    causes::reset::returning::{Event, Moment, Passage},
    sample::{NodeIdentity, Sample},
};

const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

fn tunnelled() -> Passage {
    Passage { by: format!("via {PEER} dev tunl0"), next_hops: vec![PEER], tunnelled: true }
}

fn things() -> [Thing; 4] {
    [
        Thing::Block("10.200.153.64/26".parse().unwrap()),
        Thing::Block("10.200.168.128/26".parse().unwrap()),
        Thing::Pod(Ipv4Addr::new(10, 200, 55, 193)),
        Thing::Session(PEER),
    ]
}

fn watched() -> Returning {
    let [first, second, pod, session] = things();
    let mut returning = Returning::default();
    returning.expect(first, tunnelled());
    returning.expect(second, tunnelled());
    returning.expect(pod, Passage::by("dev cali1"));
    returning.expect(session, Passage::by(words::UP));
    returning
}

fn at(millis: u64) -> Moment {
    Moment::exact(Duration::from_millis(millis))
}

fn told(returning: &Returning, events: &[Event], stopped: Stopped) -> String {
    let sample = Sample {
        node: NodeIdentity { hostname: "paas-188".to_owned(), ..NodeIdentity::default() },
        bird: Fact::Known(Bird::default()),
        ..Sample::default()
    };
    let model = Model::new(&sample);
    let start: Timestamp = "2026-11-28T18:00:00Z".parse().unwrap();
    let outcome =
        Outcome { stopped, start, followed: Duration::from_secs(12), returning, lost: 0, bird: &sample.bird };
    let document = FollowDocument::new(&model, &model, &outcome);
    assert!(document.quiet().chars().count() <= QUIET_WIDTH);
    let lines: Vec<String> = events.iter().map(|event| event_line(start + event.at, event)).collect();
    format!("{}\n{}\n{}", start_line("paas-188", returning), lines.join("\n"), document.text())
}

#[test]
fn a_reset_that_is_through() {
    let [first, _, _, session] = things();
    let mut returning = watched();
    let mut events = Vec::new();
    events.extend(returning.see(Moment::between(at(500).latest, at(1000).latest), &session, None));
    events.extend(returning.see(at(1_200), &first, None));
    let up = Passage::by(words::UP);
    events.extend(returning.see(Moment::between(at(3500).latest, at(4000).latest), &session, Some(&up)));
    events.extend(returning.see(at(4_321), &first, Some(&tunnelled())));
    insta::assert_snapshot!(told(&returning, &events, Stopped::AllBack));
}

#[test]
fn a_reset_that_kept_its_routes() {
    let [_, _, _, session] = things();
    let mut returning = watched();
    let mut events = Vec::new();
    let between = Moment::between(at(500).latest, at(1000).latest);
    events.extend(returning.see(between, &session, None));
    events.extend(returning.see(between, &session, Some(&Passage::by(words::UP))));
    insta::assert_snapshot!(told(&returning, &events, Stopped::AllBack));
}

#[test]
fn a_reset_that_lacks_something() {
    let [first, _, pod, session] = things();
    let mut returning = watched();
    let mut events = Vec::new();
    for (millis, thing) in [(1_000, session), (1_200, first), (1_300, pod)] {
        events.extend(returning.see(at(millis), &thing, None));
    }
    insta::assert_snapshot!(told(&returning, &events, Stopped::Timeout));
}

#[test]
fn a_reset_that_nobody_made() {
    insta::assert_snapshot!(told(&watched(), &[], Stopped::Timeout));
}
