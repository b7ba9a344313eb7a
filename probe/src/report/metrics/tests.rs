//! What scrapers read.

use std::{collections::BTreeSet, net::Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::{
    causes::Cause,
    reading::{Count, DropCounts, DropPlace, LinkCounts, PeerCounts, PeerWay},
    report::document::{Node, Subject, SubjectKind},
    sample::{BgpSession, Fact, Link},
    state::{BlackHole, TableUse},
};

fn black_hole(subject: impl Into<String>) -> BlackHole {
    BlackHole {
        id: "1".to_owned(),
        opened: "2026-01-01T00:00:00Z".to_owned(),
        closed: None,
        cause: Some(Cause::BlockRouteMissing),
        subject: Subject { kind: SubjectKind::Block, value: subject.into() },
        place: None,
        summary: "no route to block".to_owned(),
        packets: 12,
        finding: None,
    }
}

fn session(peer: u32, established: bool) -> BgpSession {
    BgpSession {
        name: "Mesh".to_owned(),
        peer: Ipv4Addr::from_bits(0xac1e_0a00 + peer),
        kind: crate::sample::PeerKind::NodeToNodeMesh,
        established,
        state: "Established".to_owned(),
        since: "02:28".to_owned(),
        error: String::new(),
        source: None,
        imported: None,
        exported: None,
    }
}

fn dropped(reason: impl Into<String>, segments: u64) -> DropCounts {
    DropCounts {
        reason: Some(reason.into()),
        symbol: Some("ip_error".to_owned()),
        place: DropPlace::Node,
        device: None,
        ingress_device: None,
        block: None,
        encapsulated: false,
        count: Count { segments, buffers: segments },
        last: None,
    }
}

fn small() -> State {
    let mut state = State {
        started: "2026-01-01T00:00:00Z".to_owned(),
        time: "2026-01-01T00:00:01.5Z".to_owned(),
        node: Node {
            name: "paas-188".to_owned(),
            address: Some(Ipv4Addr::new(172, 30, 10, 188)),
            kernel: String::new(),
        },
        sessions: Fact::Known(vec![session(187, false), session(186, true)]),
        tunnel: Fact::Known(Link { index: 3, up: true, ..Link::default() }),
        black_holes: vec![black_hole("10.200.153.64/26")],
        ..State::default()
    };
    state.health.tables = vec![TableUse { name: "ledger".to_owned(), used: 9, capacity: 64 }];
    state.health.read_us = 1500;
    let count = |segments| Count { segments, buffers: segments };
    let covered_since = Some(state.started.clone());
    let link = LinkCounts { link: 7, name: "cali0".to_owned(), covered_since, ..LinkCounts::default() };
    state.reading.links =
        vec![LinkCounts { from_pod: count(5), bare: count(2), bare_to_pool: count(2), ..link }];
    state.reading.drops = vec![dropped("IP_INNOROUTES", 3)];
    state.reading.drops_counted = true;
    let way = |segments| PeerWay { segments, ..PeerWay::default() };
    let peer = Ipv4Addr::new(172, 30, 10, 187);
    state.reading.peers = vec![PeerCounts { peer, encapsulated: way(4), decapsulated: way(0) }];
    state
}

fn text(state: &State, what: Page, format: Format) -> String {
    let mut totals = Totals::default();
    totals.advance(state);
    let written_in = [(Page::Node, Duration::from_millis(2))];
    page(what, &Facts { state, totals: &totals, written_in: &written_in }, format)
}

/// The series that a page has, without their values.
fn series(page: &str) -> Vec<&str> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
}

#[test]
fn a_node_as_prometheus_text() {
    let page = text(&small(), Page::Node, Format::Text);
    insta::assert_snapshot!(page.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn peers_as_openmetrics() {
    insta::assert_snapshot!(text(&small(), Page::Peers, Format::OpenMetrics));
}

#[test]
fn both_formats_have_the_same_series() {
    let names = |format| {
        let page = text(&small(), Page::Node, format);
        series(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(Format::Text), names(Format::OpenMetrics));
}

#[test]
fn what_is_unknown_has_no_series() {
    let mut state = small();
    state.sessions = Fact::Absent("no socket".to_owned());
    state.tunnel = Fact::Absent("no tunl0".to_owned());
    state.reading.drops_counted = false;
    state.reading.links[0].covered_since = None;
    state.bare_blocks = 1;
    let page = text(&state, Page::Node, Format::Text);
    for absent in [
        "caliprobe_bgp_session",
        "caliprobe_tunnel_",
        "caliprobe_unrouted_",
        "caliprobe_leaked_",
        "caliprobe_drops_without_room",
        "point=\"from-pod\"",
        "point=\"to-pod\"",
    ] {
        let present: Vec<&str> = series(&page).into_iter().filter(|series| series.contains(absent)).collect();
        assert_eq!(
            present,
            ["caliprobe_cut_series{metric=\"caliprobe_bgp_session_up\"}"]
                [..usize::from(absent.contains("bgp"))]
        );
    }
    assert!(page.contains("caliprobe_packets_total{point=\"to-tunnel\"} 0\n"));
}

#[test]
fn a_packet_without_a_route_is_not_told_from_others_where_neither_symbol_nor_reason_is_known() {
    let mut state = small();
    state.reading.drops.push(DropCounts { reason: None, symbol: None, ..dropped("", 1) });
    assert!(!text(&state, Page::Node, Format::Text).contains("caliprobe_unrouted_packets_total 5"));
    state.reading.drops.pop();
    assert!(text(&state, Page::Node, Format::Text).contains("caliprobe_unrouted_packets_total 5\n"));
}

fn enormous() -> State {
    let mut state = small();
    state.black_holes = (0..5000).map(|number| black_hole("\"".repeat(100) + &number.to_string())).collect();
    state.sessions = Fact::Known((0..5000).map(|number| session(number, number != 4321)).collect());
    state.reading.drops = (0..4096).map(|number| dropped(format!("REASON_{number}"), number)).collect();
    state.reading.peers = (0..5000)
        .map(|number| PeerCounts {
            peer: Ipv4Addr::from_bits(number),
            encapsulated: PeerWay::default(),
            decapsulated: PeerWay::default(),
        })
        .collect();
    state
}

#[test]
fn the_page_of_the_node_is_bounded_and_counts_what_it_cut() {
    for format in [Format::Text, Format::OpenMetrics] {
        let page = text(&enormous(), Page::Node, format);
        let series = series(&page);
        assert!(series.len() <= 1000, "{} series", series.len());
        assert!(page.len() <= limit::MOST_BYTES, "{} bytes", page.len());
        let of = |name: &str| series.iter().filter(|series| series.starts_with(name)).count();
        for (metric, all) in [
            ("caliprobe_black_hole_open", 5000),
            ("caliprobe_drops_total", 4096),
            ("caliprobe_bgp_session_up", 5000),
        ] {
            let kept = of(&format!("{metric}{{"));
            assert!(kept > 100, "{kept} of {metric}");
            let cut = format!("caliprobe_cut_series{{metric=\"{metric}\"}} {}\n", all - kept);
            assert!(page.contains(&cut), "{cut} is not in {}", page.split("caliprobe_cut").last().unwrap());
        }
        assert!(
            page.contains("caliprobe_bgp_session_up{peer=\"172.30.26.225\"} 0\n"),
            "the one that is down is kept"
        );
        assert!(page.contains("reason=\"REASON_4095\""), "the most frequent drop is kept");
    }
}

#[test]
fn no_peer_is_ever_cut() {
    assert_eq!(series(&text(&enormous(), Page::Peers, Format::Text)).len(), 2 * 5000);
}

#[test]
fn names_are_unique_and_documented() {
    let metrics = || catalogue::NODE.iter().chain([&catalogue::CUT_SERIES]).chain(catalogue::PEERS);
    let names: BTreeSet<&str> = metrics().map(|metric| metric.name).collect();
    assert_eq!(names.len(), metrics().count());
    for metric in metrics() {
        let page = reference();
        assert!(page.contains(&format!("### `{}`", metric.name)));
        assert!(!metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']), "{}", metric.name);
    }
}

#[test]
fn the_scrapers_header_chooses_the_format() {
    assert_eq!(
        Format::accepted("application/openmetrics-text; version=1.0.0, */*;q=0.1"),
        Format::OpenMetrics
    );
    for text in ["", "*/*", "text/plain", "application/openmetrics-text;q=0, text/plain"] {
        assert_eq!(Format::accepted(text), Format::Text, "{text}");
    }
}

proptest! {
    #[test]
    fn hostile_names_neither_break_a_line_nor_make_two_series_of_one(subjects in prop::collection::vec(".*", 0..20)) {
        let mut state = small();
        state.black_holes = subjects.into_iter().map(black_hole).collect();
        let page = text(&state, Page::Node, Format::Text);
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let value = line.rsplit_once(' ').map(|(_, value)| value.parse::<f64>());
            prop_assert!(matches!(value, Some(Ok(_))), "{}", line);
        }
        let series = series(&page);
        prop_assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len());
    }
}
