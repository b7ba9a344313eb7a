//! What it costs to answer a scraper and a client of the local API, on the largest node: 1,000 pods, 10,000 blocks,
//! 2,000 peers with a session each.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use caliprobe::{
    model::totals::Totals,
    reading::{BlockCounts, Flow, LinkCounts, PeerCounts, PeerWay},
    report::metrics::{self, Facts, Format, Page},
    sample::{BgpSession, Fact, PeerKind},
    state::State,
};
use ipnet::Ipv4Net;

const ROUNDS: u32 = 200;

fn main() {
    let state = large_node();
    let mut totals = Totals::default();
    totals.advance(&state);
    let facts = Facts { state: &state, totals: &totals, written_in: &[] };
    println!("{:<16} {:>9} {:>9} {:>8} {:>8}", "answer", "bytes", "lines", "ms", "budget");
    for (name, page, budget) in [("/metrics", Page::Node, "10"), ("/metrics/peers", Page::Peers, "20")] {
        print(name, budget, || metrics::page(page, &facts, Format::OpenMetrics));
    }
    print("/v1/state", "", || serde_json::to_string(&state).unwrap_or_default());
    let mut totals = totals.clone();
    print("a reading's sums", "", || {
        totals.advance(&state);
        String::new()
    });
}

fn print(name: &str, budget: &str, mut answer: impl FnMut() -> String) {
    let text = answer();
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        std::hint::black_box(answer());
        fastest = fastest.min(start.elapsed());
    }
    let (bytes, lines) = (text.len(), text.lines().count());
    println!("{name:<16} {bytes:>9} {lines:>9} {:>8.2} {budget:>8}", fastest.as_secs_f64() * 1e3);
}

fn large_node() -> State {
    let mut state = State::default();
    let address = |base: u32, number: u32| Ipv4Addr::from_bits(base + number);
    let (nodes, pods) = (0xac1e_0000, 0x0ac8_0000);
    state.reading.links = (0..1000)
        .map(|number| LinkCounts {
            link: number,
            name: format!("cali{number:011x}"),
            ..LinkCounts::default()
        })
        .collect();
    state.reading.blocks = (0..10_000)
        .filter_map(|number| Ipv4Net::new(address(pods, number * 64), 26).ok())
        .map(|block| BlockCounts { block, flow: Flow::default() })
        .collect();
    let way = PeerWay { segments: 123_456_789, ..PeerWay::default() };
    state.reading.peers = (0..2000)
        .map(|number| PeerCounts { peer: address(nodes, number), encapsulated: way, decapsulated: way })
        .collect();
    state.sessions = Fact::Known((0..2000).map(|number| session(address(nodes, number))).collect());
    state
}

fn session(peer: Ipv4Addr) -> BgpSession {
    BgpSession {
        name: "Mesh".to_owned(),
        peer,
        kind: PeerKind::NodeToNodeMesh,
        established: true,
        state: "Established".to_owned(),
        since: "02:28".to_owned(),
        error: String::new(),
        source: None,
        imported: None,
        exported: None,
    }
}
