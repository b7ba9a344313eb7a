//! Nodes that never were: what their daemons know.

use std::net::Ipv4Addr;

use caliprobe::{
    causes::Cause,
    reading::{Count, DropCounts, DropPlace, LinkCounts, PeerCounts, PeerWay},
    report::document::{Node, SCHEMA_VERSION, Subject, SubjectKind},
    sample::{BgpSession, Fact, Link, PeerKind},
    state::{BlackHole, State, TableUse},
};

/// The node of a number.
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 10, number)
}

/// A node with every fact, which sends to and hears from others: (number, encapsulated, decapsulated).
pub fn state(number: u8, traffic: &[(u8, u64, u64)]) -> State {
    let started = "2026-01-01T00:00:00Z".to_owned();
    let time = jiff::Timestamp::now().to_string();
    let mut state = State {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.clone(),
        time: time.clone(),
        node: Node {
            name: format!("paas-{number}"),
            address: Some(address(number)),
            kernel: "6.12".to_owned(),
        },
        sessions: Fact::Known(traffic.iter().map(|(peer, ..)| session(address(*peer))).collect()),
        tunnel: Fact::Known(Link { index: 3, name: "tunl0".to_owned(), up: true, ..Link::default() }),
        black_holes: vec![black_hole()],
        ..State::default()
    };
    state.health.covered = 2;
    state.health.tables = vec![TableUse { name: "ledger".to_owned(), used: 9, capacity: 64 }];
    state.reading.time = time;
    state.reading.drops_counted = true;
    state.reading.links = vec![LinkCounts {
        link: 7,
        name: "cali0".to_owned(),
        covered_since: Some(started),
        ..LinkCounts::default()
    }];
    state.reading.drops = vec![dropped()];
    state.reading.peers =
        traffic.iter().map(|(peer, sent, heard)| counts(address(*peer), *sent, *heard)).collect();
    state
}

fn counts(peer: Ipv4Addr, sent: u64, heard: u64) -> PeerCounts {
    let way = |segments| PeerWay { segments, buffers: segments, ..PeerWay::default() };
    PeerCounts { peer, encapsulated: way(sent), decapsulated: way(heard) }
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

fn black_hole() -> BlackHole {
    BlackHole {
        id: "1".to_owned(),
        opened: "2026-01-01T00:00:00Z".to_owned(),
        closed: None,
        cause: Some(Cause::BlockRouteMissing),
        subject: Subject { kind: SubjectKind::Block, value: "10.200.153.64/26".to_owned() },
        place: None,
        summary: "no route to block 10.200.153.64/26".to_owned(),
        packets: 12,
        finding: None,
    }
}

fn dropped() -> DropCounts {
    DropCounts {
        reason: Some("IP_INNOROUTES".to_owned()),
        symbol: Some("ip_error".to_owned()),
        place: DropPlace::Node,
        device: None,
        ingress_device: None,
        block: None,
        encapsulated: false,
        count: Count { segments: 12, buffers: 12 },
        last: None,
    }
}
