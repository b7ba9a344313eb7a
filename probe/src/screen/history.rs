//! What the readings so far show together: how fast each counter rises. What two readings do not tell is unknown,
//! never zero.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::{
    reading::{DropCounts, DropPlace, Flow, LinkCounts},
    state::State,
};

/// How many rates a trend goes back.
pub const TREND: usize = 30;

/// Of one subject, in segments; each is absent where nobody counts it.
pub type Counters = [Option<u64>; 4];
/// Per second, of the counters at the same places.
pub type Rates = [Option<f64>; 4];

/// What a row is about. Stays the same from one reading to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    BlackHole(String),
    Peer(Ipv4Addr),
    Block(Ipv4Net),
    /// By index and name: a name may come back with another device.
    Pod(u32, String),
    Drop(Box<DropKey>),
}

/// The kinds of drops that the ledger keeps apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DropKey {
    reason: Option<String>,
    symbol: Option<String>,
    place: DropPlace,
    device: Option<String>,
    ingress_device: Option<String>,
    block: Option<Ipv4Net>,
    encapsulated: bool,
}

impl Subject {
    pub fn of_link(link: &LinkCounts) -> Self {
        Self::Pod(link.link, link.name.clone())
    }

    pub fn of_drop(drop: &DropCounts) -> Self {
        Self::Drop(Box::new(DropKey {
            reason: drop.reason.clone(),
            symbol: drop.symbol.clone(),
            place: drop.place,
            device: drop.device.clone(),
            ingress_device: drop.ingress_device.clone(),
            block: drop.block,
            encapsulated: drop.encapsulated,
        }))
    }
}

/// The last reading, and what those before it add.
#[derive(Clone, Debug, Default)]
pub struct History {
    state: Arc<State>,
    /// Between the last two readings, seconds; absent where there is one alone, or the clock was set back.
    interval: Option<f64>,
    tracks: HashMap<Subject, Track>,
}

#[derive(Clone, Debug, Default)]
struct Track {
    counters: Counters,
    rates: Rates,
    trend: VecDeque<Option<f32>>,
}

impl History {
    /// Adds a reading. The same one again adds nothing, and one of a daemon that started anew begins everything anew.
    pub fn take(&mut self, state: Arc<State>) {
        let same_daemon = self.state.started == state.started;
        if same_daemon && self.state.time == state.time {
            self.state = state;
            return;
        }
        if !same_daemon {
            self.tracks.clear();
        }
        self.interval = seconds_between(&self.state.time, &state.time).filter(|_| same_daemon);
        let mut before = std::mem::take(&mut self.tracks);
        for (subject, counters) in counters(&state) {
            let track = before.remove(&subject).or_else(|| self.new_track(&subject)).unwrap_or_default();
            self.tracks.insert(subject, track.advance(counters, self.interval));
        }
        self.state = state;
    }

    /// A kind of drop is listed as soon as it has one: until then there was none. Of others nothing is known before
    /// they are listed.
    fn new_track(&self, subject: &Subject) -> Option<Track> {
        let counted = matches!(subject, Subject::Drop(_)) && self.state.reading.drops_counted;
        counted.then(|| Track { counters: [Some(0), None, None, None], ..Track::default() })
    }

    /// The last reading; an empty one before the first.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Between the last two readings, seconds.
    pub fn interval(&self) -> Option<f64> {
        self.interval
    }

    pub fn rates(&self, subject: &Subject) -> Rates {
        self.tracks.get(subject).map(|track| track.rates).unwrap_or_default()
    }

    /// The sum of the subject's rates at each of the last readings, the newest at the end.
    pub fn trend(&self, subject: &Subject) -> Vec<Option<f32>> {
        self.tracks.get(subject).map(|track| track.trend.iter().copied().collect()).unwrap_or_default()
    }
}

impl Track {
    fn advance(mut self, counters: Counters, interval: Option<f64>) -> Self {
        for ((rate, before), now) in self.rates.iter_mut().zip(self.counters).zip(counters) {
            *rate = rise(before, now, interval);
        }
        self.counters = counters;
        if self.trend.len() == TREND {
            self.trend.pop_front();
        }
        self.trend.push_back(sum(&self.rates));
        self
    }
}

/// A counter that fell has begun anew somewhere between the two: how much it rose is not known.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
fn rise(before: Option<u64>, now: Option<u64>, interval: Option<f64>) -> Option<f64> {
    Some(now?.checked_sub(before?)? as f64 / interval?)
}

/// Of those that are known; absent where none is.
#[expect(clippy::cast_possible_truncation, reason = "a trend is drawn in eight steps")]
fn sum(rates: &Rates) -> Option<f32> {
    rates.iter().flatten().copied().reduce(|sum, rate| sum + rate).map(|sum| sum as f32)
}

/// RFC 3339 both; absent where no time passed, or either is no time.
pub fn seconds_between(from: &str, to: &str) -> Option<f64> {
    let (from, to) = (from.parse::<Timestamp>().ok()?, to.parse::<Timestamp>().ok()?);
    Some(to.duration_since(from).as_secs_f64()).filter(|seconds| *seconds > 0.0)
}

fn counters(state: &State) -> impl Iterator<Item = (Subject, Counters)> {
    let reading = &state.reading;
    let black_holes = state.black_holes.iter().map(|black_hole| {
        (Subject::BlackHole(black_hole.id.clone()), [Some(black_hole.packets), None, None, None])
    });
    let peers = reading.peers.iter().map(|peer| {
        let ways = [Some(peer.encapsulated.segments), Some(peer.decapsulated.segments), None, None];
        (Subject::Peer(peer.peer), ways)
    });
    let blocks = reading.blocks.iter().map(|block| (Subject::Block(block.block), of_flow(&block.flow)));
    let pods = reading.links.iter().map(|link| (Subject::of_link(link), of_link(link)));
    let drops = reading
        .drops
        .iter()
        .map(|drop| (Subject::of_drop(drop), [Some(drop.count.segments), None, None, None]));
    black_holes.chain(peers).chain(blocks).chain(pods).chain(drops)
}

fn of_flow(flow: &Flow) -> Counters {
    [flow.to_tunnel, flow.to_wire, flow.from_wire, flow.from_tunnel].map(|count| Some(count.segments))
}

/// Nothing is counted at a device that has no programs yet.
fn of_link(link: &LinkCounts) -> Counters {
    let counts = [link.from_pod, link.to_pod, link.bare, link.dropped];
    counts.map(|count| link.covered_since.as_ref().map(|_| count.segments))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reading::{Count, PeerCounts, PeerWay};

    const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

    fn state(second: u32, sent: u64) -> State {
        let way = |segments| PeerWay { segments, ..PeerWay::default() };
        let peer = PeerCounts { peer: PEER, encapsulated: way(sent), decapsulated: way(0) };
        let mut state = State {
            started: "2026-01-01T00:00:00Z".to_owned(),
            time: format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60),
            ..State::default()
        };
        state.reading.peers = vec![peer];
        state.reading.drops_counted = true;
        state
    }

    fn history(states: impl IntoIterator<Item = State>) -> History {
        let mut history = History::default();
        for state in states {
            history.take(Arc::new(state));
        }
        history
    }

    fn sent(history: &History) -> Option<f64> {
        history.rates(&Subject::Peer(PEER))[0]
    }

    #[test]
    fn a_rate_takes_two_readings_and_the_time_between_them() {
        assert_eq!(sent(&history([state(1, 100)])), None);
        assert_eq!(sent(&history([state(1, 100), state(3, 150)])), Some(25.0));
        assert_eq!(history([state(1, 100), state(3, 100)]).rates(&Subject::Peer(PEER))[1], Some(0.0));
    }

    #[test]
    fn the_same_reading_again_changes_no_rate() {
        let asked_twice = history([state(1, 100), state(3, 150), state(3, 150)]);
        assert_eq!(sent(&asked_twice), Some(25.0));
        assert_eq!(asked_twice.trend(&Subject::Peer(PEER)).len(), 2);
    }

    #[test]
    fn what_two_readings_do_not_tell_is_unknown() {
        assert_eq!(sent(&history([state(1, 100), state(3, 20)])), None, "a counter that begins anew");
        assert_eq!(sent(&history([state(3, 100), state(1, 150)])), None, "a clock that was set back");
        let restarted = State { started: "2026-01-01T00:00:02Z".to_owned(), ..state(3, 150) };
        assert_eq!(sent(&history([state(1, 100), restarted])), None, "another daemon");
        let gone = State { reading: crate::reading::Reading::default(), ..state(2, 0) };
        assert_eq!(sent(&history([state(1, 100), gone, state(3, 150)])), None, "a peer that was away");
    }

    #[test]
    fn a_device_without_programs_has_no_rates() {
        let with_link = |second, covered: bool| {
            let covered_since = covered.then(|| "2026-01-01T00:00:00Z".to_owned());
            let mut state = state(second, 0);
            state.reading.links = vec![LinkCounts {
                link: 7,
                name: "cali7".to_owned(),
                covered_since,
                ..LinkCounts::default()
            }];
            state
        };
        let subject = Subject::Pod(7, "cali7".to_owned());
        assert_eq!(history([with_link(1, false), with_link(2, false)]).rates(&subject), [None; 4]);
        assert_eq!(history([with_link(1, false), with_link(2, true)]).rates(&subject), [None; 4]);
        assert_eq!(history([with_link(1, true), with_link(2, true)]).rates(&subject), [Some(0.0); 4]);
    }

    #[test]
    fn a_kind_of_drop_that_appears_began_at_zero() {
        let drop = DropCounts {
            reason: Some("IP_INNOROUTES".to_owned()),
            symbol: None,
            place: DropPlace::Node,
            device: None,
            ingress_device: None,
            block: None,
            encapsulated: false,
            count: Count { segments: 12, buffers: 12 },
            last: None,
        };
        let subject = Subject::of_drop(&drop);
        let mut dropping = state(3, 0);
        dropping.reading.drops = vec![drop];
        assert_eq!(history([dropping.clone()]).rates(&subject)[0], None, "nobody looked before");
        assert_eq!(history([state(1, 0), dropping]).rates(&subject)[0], Some(6.0));
    }

    #[test]
    fn a_trend_keeps_the_last_readings_alone() {
        let long = history((0..100).map(|second| state(second, u64::from(second) * 2)));
        let trend = long.trend(&Subject::Peer(PEER));
        assert_eq!(trend, vec![Some(2.0); TREND]);
    }

    proptest! {
        #[test]
        fn no_rate_is_negative_or_infinite(readings in prop::collection::vec((0u32..100, any::<u64>()), 0..20)) {
            let history = history(readings.into_iter().map(|(second, sent)| state(second, sent)));
            prop_assert!(sent(&history).is_none_or(|rate| rate >= 0.0 && rate.is_finite()));
        }
    }
}
