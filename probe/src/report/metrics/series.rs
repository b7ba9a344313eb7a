//! The series of each metric, from what the daemon knows.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Facts, Page};
use crate::{
    causes::Cause,
    reading::DropPlace,
    sample::{BgpSession, LinkStatistics},
    state::{PeerTraffic, TableUse},
};

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Seconds(f64),
}

/// Of a label's value. Kubernetes' names are shorter; what is longer comes from nobody's good will.
const LONGEST_VALUE: usize = 128;

impl Series {
    pub(super) fn whole(value: u64) -> Self {
        Self { labels: Vec::new(), value: Value::Whole(value) }
    }

    fn seconds(value: f64) -> Self {
        Self { labels: Vec::new(), value: Value::Seconds(value) }
    }

    /// The same with one more label.
    pub(super) fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        let printable = |c: char| if c.is_control() { '?' } else { c };
        self.labels.push((name, value.as_ref().chars().take(LONGEST_VALUE).map(printable).collect()));
        self
    }
}

pub(super) fn build(_: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(1).with("version", env!("CARGO_PKG_VERSION"))]
}

pub(super) fn node(facts: &Facts<'_>) -> Vec<Series> {
    let node = &facts.state.node;
    let address = node.address.map(|address| address.to_string()).unwrap_or_default();
    vec![Series::whole(1).with("node", &node.name).with("address", address)]
}

pub(super) fn start_time(facts: &Facts<'_>) -> Vec<Series> {
    time(&facts.state.started)
}

pub(super) fn reading_time(facts: &Facts<'_>) -> Vec<Series> {
    time(&facts.state.time)
}

fn time(text: &str) -> Vec<Series> {
    let time = text.parse::<Timestamp>().ok();
    time.map(|time| Series::seconds(time.as_duration().as_secs_f64())).into_iter().collect()
}

pub(super) fn packets(facts: &Facts<'_>) -> Vec<Series> {
    let flow = facts.state.reading.node.flow;
    let pods = facts.totals.pods;
    // Without programs at the pods' interfaces nobody counts there; without pods there is nothing to count.
    let pod = |count| (pods.covered || facts.state.reading.links.is_empty()).then_some(count);
    let points = [
        ("from-pod", pod(pods.from_pod)),
        ("to-tunnel", Some(flow.to_tunnel.segments)),
        ("to-wire", Some(flow.to_wire.segments)),
        ("from-wire", Some(flow.from_wire.segments)),
        ("from-tunnel", Some(flow.from_tunnel.segments)),
        ("to-pod", pod(pods.to_pod)),
        ("bare", Some(pods.bare)),
    ];
    points.into_iter().filter_map(|(point, count)| Some(Series::whole(count?).with("point", point))).collect()
}

pub(super) fn leaked(facts: &Facts<'_>) -> Vec<Series> {
    (facts.state.bare_blocks == 0).then(|| Series::whole(facts.totals.leaked)).into_iter().collect()
}

pub(super) fn unrouted(facts: &Facts<'_>) -> Vec<Series> {
    let reading = &facts.state.reading;
    let nameless = reading
        .drops
        .iter()
        .any(|drop| drop.place == DropPlace::Node && drop.symbol.is_none() && drop.reason.is_none());
    let is_known = facts.state.bare_blocks == 0 && reading.drops_counted && !nameless;
    let count = facts.totals.leaked + facts.totals.without_route;
    is_known.then(|| Series::whole(count)).into_iter().collect()
}

/// The most frequent first.
pub(super) fn drops(facts: &Facts<'_>) -> Vec<Series> {
    let mut drops: Vec<_> = facts.totals.drops.iter().collect();
    drops.sort_by(|(_, one), (_, other)| other.cmp(one));
    let series = |((reason, place), count): (&(Option<String>, DropPlace), &u64)| {
        let place = match place {
            DropPlace::Node => "node",
            DropPlace::InsideAPod => "inside-a-pod",
            DropPlace::Unknown => "unknown",
        };
        Series::whole(*count).with("reason", reason.as_deref().unwrap_or("unknown")).with("place", place)
    };
    drops.into_iter().map(series).collect()
}

pub(super) fn drops_without_room(facts: &Facts<'_>) -> Vec<Series> {
    let node = &facts.state.reading.node;
    let counted = facts.state.reading.drops_counted;
    counted.then(|| Series::whole(node.drops_without_room)).into_iter().collect()
}

pub(super) fn transit(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.reading.node.transit.segments)]
}

pub(super) fn outer_fragments(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.reading.node.outer_fragments)]
}

pub(super) fn truncated(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.reading.node.truncated)]
}

pub(super) fn black_holes(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.black_holes.len() as u64)]
}

/// In the order in which they opened; those with one cause and subject together.
pub(super) fn black_hole(facts: &Facts<'_>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    let mut places = BTreeMap::new();
    for black_hole in &facts.state.black_holes {
        let cause = black_hole.cause.map_or_else(|| "unknown".to_owned(), Cause::code);
        let one = Series::whole(1).with("cause", cause).with("subject", &black_hole.subject.value);
        let place = *places.entry(one.labels.clone()).or_insert(series.len());
        match series.get_mut(place) {
            Some(Series { value: Value::Whole(count), .. }) => *count += 1,
            _ => series.push(one),
        }
    }
    series
}

pub(super) fn sessions(facts: &Facts<'_>) -> Vec<Series> {
    count_sessions(facts, |_| true)
}

pub(super) fn established_sessions(facts: &Facts<'_>) -> Vec<Series> {
    count_sessions(facts, |session| session.established)
}

fn count_sessions(facts: &Facts<'_>, wanted: fn(&BgpSession) -> bool) -> Vec<Series> {
    let sessions = facts.state.sessions.known();
    let count = |sessions: &Vec<BgpSession>| sessions.iter().filter(|session| wanted(session)).count();
    sessions.map(|sessions| Series::whole(count(sessions) as u64)).into_iter().collect()
}

/// Those that are down first. Of several with one peer, such as one by the mesh and one by hand, one is enough.
pub(super) fn session(facts: &Facts<'_>) -> Vec<Series> {
    let mut peers = BTreeMap::new();
    for session in facts.state.sessions.known().into_iter().flatten() {
        *peers.entry(session.peer).or_insert(false) |= session.established;
    }
    let mut peers: Vec<_> = peers.into_iter().collect();
    peers.sort_by_key(|(_, established)| *established);
    let series = |(peer, established): (std::net::Ipv4Addr, bool)| {
        Series::whole(established.into()).with("peer", peer.to_string())
    };
    peers.into_iter().map(series).collect()
}

pub(super) fn tunnel_up(facts: &Facts<'_>) -> Vec<Series> {
    facts.state.tunnel.known().map(|tunnel| Series::whole(tunnel.up.into())).into_iter().collect()
}

pub(super) fn tunnel(facts: &Facts<'_>, counter: fn(&LinkStatistics) -> u64) -> Vec<Series> {
    facts.totals.tunnel.as_ref().map(|statistics| Series::whole(counter(statistics))).into_iter().collect()
}

pub(super) fn covered(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.health.covered as u64)]
}

pub(super) fn pending(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.health.pending as u64)]
}

pub(super) fn refused(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.health.refused.len() as u64)]
}

pub(super) fn overruns(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.health.overruns)]
}

pub(super) fn failed_reads(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.health.failed_reads)]
}

pub(super) fn lost_events(facts: &Facts<'_>) -> Vec<Series> {
    vec![Series::whole(facts.state.health.lost_events)]
}

pub(super) fn table_entries(facts: &Facts<'_>) -> Vec<Series> {
    of_tables(facts, |table| table.used)
}

pub(super) fn table_capacity(facts: &Facts<'_>) -> Vec<Series> {
    of_tables(facts, |table| table.capacity)
}

fn of_tables(facts: &Facts<'_>, figure: fn(&TableUse) -> u64) -> Vec<Series> {
    let tables = facts.state.health.tables.iter();
    tables.map(|table| Series::whole(figure(table)).with("table", &table.name)).collect()
}

pub(super) fn ledger_read(facts: &Facts<'_>) -> Vec<Series> {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years of microseconds")]
    let seconds = facts.state.health.read_us as f64 / 1e6;
    vec![Series::seconds(seconds)]
}

pub(super) fn scrape(facts: &Facts<'_>) -> Vec<Series> {
    let pages = [Page::Node, Page::Peers];
    let times = pages.iter().filter_map(|page| facts.written_in.iter().find(|(written, _)| written == page));
    times.map(|(page, time)| Series::seconds(time.as_secs_f64()).with("page", page.name())).collect()
}

pub(super) fn peers_encapsulated(facts: &Facts<'_>) -> Vec<Series> {
    of_peers(facts, |peer| peer.encapsulated)
}

pub(super) fn peers_decapsulated(facts: &Facts<'_>) -> Vec<Series> {
    of_peers(facts, |peer| peer.decapsulated)
}

fn of_peers(facts: &Facts<'_>, counter: fn(&PeerTraffic) -> u64) -> Vec<Series> {
    let peers = facts.totals.peers(facts.state).into_iter();
    peers.map(|peer| Series::whole(counter(&peer)).with("peer", peer.peer.to_string())).collect()
}
