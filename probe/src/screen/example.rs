//! A node with something of everything, for tests.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent},
    layout::Size,
};

use super::{
    history::History,
    view::{Source, View},
};
use crate::{
    causes::Cause,
    reading::{BlockCounts, Count, DropCounts, DropPlace, Flow, LinkCounts, PeerCounts, PeerWay},
    report::document::{
        Certainty, Evidence, EvidenceSource, Finding, Fix, FixKind, Node, Place, Severity, Stage, Subject,
        SubjectKind,
    },
    sample::{BgpSession, Fact, PeerKind},
    state::{BlackHole, State},
};

const CUT_OFF: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);
const FINE: Ipv4Addr = Ipv4Addr::new(172, 30, 51, 95);
const NEW: Ipv4Addr = Ipv4Addr::new(172, 30, 51, 96);

/// As it is so many seconds after 22:03:36.
pub(super) fn state(second: u64) -> State {
    let mut state = State {
        schema_version: 1,
        version: "0.1.0".to_owned(),
        started: "2026-11-23T21:00:00Z".to_owned(),
        time: format!("2026-11-23T22:03:{:02}.250Z", 36 + second),
        node: Node {
            name: "paas-188".to_owned(),
            address: Some(Ipv4Addr::new(172, 30, 10, 188)),
            kernel: "6.12.41".to_owned(),
        },
        sessions: Fact::Known(vec![
            session(CUT_OFF, "Established"),
            session(FINE, "Established"),
            session(NEW, "Connect"),
        ]),
        black_holes: vec![black_hole(6 + 12 * second)],
        ..State::default()
    };
    state.health.covered = 4;
    state.health.attached_by = Some("tcx".to_owned());
    let reading = &mut state.reading;
    reading.peers = vec![peer(CUT_OFF, 2_420 + 12 * second, 0), peer(FINE, 2_420, 1_002_440 + 1500 * second)];
    reading.blocks = vec![BlockCounts {
        block: "10.200.153.64/26".parse().unwrap(),
        flow: Flow {
            to_tunnel: count(12 * second),
            to_wire: count(0),
            from_wire: count(7),
            from_tunnel: count(7),
        },
    }];
    reading.links = vec![
        LinkCounts {
            link: 7,
            name: "cali0d7763386da".to_owned(),
            covered_since: Some(state.started.clone()),
            from_pod: count(500 + 12 * second),
            to_pod: count(400),
            encapsulated: count(488),
            dropped: count(12 * second),
            ..LinkCounts::default()
        },
        LinkCounts { link: 8, name: "cali\u{1b}[2J".to_owned(), ..LinkCounts::default() },
    ];
    reading.drops = vec![DropCounts {
        reason: Some("IP_OUTNOROUTES".to_owned()),
        symbol: Some("ip_tunnel_xmit".to_owned()),
        place: DropPlace::Node,
        device: Some("tunl0".to_owned()),
        ingress_device: Some("cali0d7763386da".to_owned()),
        block: Some("10.200.153.64/26".parse().unwrap()),
        encapsulated: false,
        count: count(6 + 12 * second),
        last: None,
    }];
    reading.drops_counted = true;
    reading.time = state.time.clone();
    state
}

pub(super) fn with_peers(number: u32) -> State {
    let mut state = state(9);
    state.reading.peers =
        (0..number).map(|number| peer(Ipv4Addr::from_bits(0xac1e_3400 + number), 0, 0)).collect();
    state
}

pub(super) fn history() -> History {
    let mut history = History::default();
    for second in [0, 1, 2, 4] {
        history.take(Arc::new(state(second)));
    }
    history
}

pub(super) fn view() -> View {
    let mut view = View::new(Source::Daemon(PathBuf::from("/run/caliprobe/api.sock")));
    view.size = Size::new(80, 24);
    for second in [0, 1, 2, 4] {
        view.take(Arc::new(state(second)));
    }
    view
}

/// Types these keys: a tabulator and a newline are the keys of that name.
pub(super) fn press(view: &mut View, keys: &str) {
    for key in keys.chars() {
        view.press(KeyEvent::from(match key {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            c => KeyCode::Char(c),
        }));
    }
}

fn count(segments: u64) -> Count {
    Count { segments, buffers: segments }
}

fn peer(peer: Ipv4Addr, sent: u64, heard: u64) -> PeerCounts {
    let way = |segments| PeerWay { segments, buffers: segments, bytes: 118 * segments, fragments: 0 };
    PeerCounts { peer, encapsulated: way(sent), decapsulated: way(heard) }
}

fn session(peer: Ipv4Addr, state: &str) -> BgpSession {
    BgpSession {
        name: format!("Mesh_{}", peer.to_string().replace('.', "_")),
        peer,
        kind: PeerKind::NodeToNodeMesh,
        established: state == "Established",
        state: state.to_owned(),
        since: "02:28:31".to_owned(),
        error: if state == "Established" { String::new() } else { "Socket: Connection refused".to_owned() },
        source: None,
        imported: Some(1),
        exported: Some(1),
    }
}

fn black_hole(packets: u64) -> BlackHole {
    let subject = Subject { kind: SubjectKind::Address, value: "172.30.10.187".to_owned() };
    let summary = "next hop 172.30.10.187 of block 10.200.153.64/26 does not answer ARP".to_owned();
    let fix = |run: &str, kind| Fix { run: run.to_owned(), on: "paas-188".to_owned(), kind, changes: false };
    BlackHole {
        id: "1-1".to_owned(),
        opened: "2026-11-23T21:59:28Z".to_owned(),
        closed: None,
        cause: Some(Cause::StaleTunnelRoute),
        subject: subject.clone(),
        place: Some(Place {
            node: "paas-188".to_owned(),
            direction: None,
            stage: Stage::Neighbour,
            device: Some("ens192".to_owned()),
        }),
        summary: summary.clone(),
        packets,
        finding: Some(Finding {
            cause: Cause::StaleTunnelRoute,
            severity: Severity::Critical,
            certainty: Certainty::Proven,
            subject,
            summary,
            evidence: vec![Evidence {
                source: EvidenceSource::Neighbour,
                text: "the neighbour entry of 172.30.10.187 on ens192 is FAILED".to_owned(),
            }],
            fix: vec![
                fix("ip neigh show 172.30.10.187", FixKind::Confirm),
                fix("calicoctl node status", FixKind::Cure),
            ],
            explained_by: Vec::new(),
        }),
    }
}
