//! A daemon's local API, served by the daemon's own code, with readings that the test makes.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use caliprobe::{
    reading::{PeerCounts, PeerWay},
    report::document::{Node, Subject, SubjectKind},
    serving::{self, Settings},
    state::{BlackHole, State},
};
use tokio::sync::{oneshot, watch};

/// Serves from a thread of its own until this is dropped.
pub struct Daemon {
    publisher: watch::Sender<Arc<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Daemon {
    pub fn start(socket: &Path) -> Result<Self> {
        let (publisher, receiver) = watch::channel(Arc::new(state(0)));
        let settings = Settings { api: Some(socket.to_owned()), ..Settings::default() };
        let (stop, stopped) = oneshot::channel();
        let (started, has_started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let _serving = serving::start(&settings, receiver)?;
                started.send(())?;
                let _ = stopped.await;
                Ok(())
            })
        });
        has_started.recv().context("the daemon did not start")?;
        Ok(Self { publisher, stop: Some(stop), thread: Some(thread) })
    }

    pub fn publish(&self, state: State) {
        self.publisher.send_replace(Arc::new(state));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A node as it is so many seconds after noon: it sends ten packets a second to 172.30.10.187.
pub fn state(second: u8) -> State {
    let way = |segments| PeerWay { segments, buffers: segments, bytes: 100 * segments, fragments: 0 };
    let mut state = State {
        schema_version: 1,
        version: "0.1.0".to_owned(),
        started: "2026-11-23T12:00:00Z".to_owned(),
        time: format!("2026-11-23T12:00:{second:02}Z"),
        node: Node {
            name: "paas-188".to_owned(),
            address: Some(Ipv4Addr::new(172, 30, 10, 188)),
            kernel: "6.12.41".to_owned(),
        },
        ..State::default()
    };
    let peer = |peer, sent| PeerCounts { peer, encapsulated: way(sent), decapsulated: way(0) };
    state.reading.peers = vec![
        peer(Ipv4Addr::new(172, 30, 10, 187), 1000 + 10 * u64::from(second)),
        peer(Ipv4Addr::new(172, 30, 51, 95), 77),
    ];
    state.reading.time = state.time.clone();
    state
}

/// With a name in it that would clear the screen and set the window's title.
pub fn black_hole() -> BlackHole {
    BlackHole {
        id: "1".to_owned(),
        opened: "2026-11-23T11:59:00Z".to_owned(),
        closed: None,
        cause: None,
        subject: Subject {
            kind: SubjectKind::Interface,
            value: "cali\u{1b}[2J\u{1b}]0;owned\u{7}".to_owned(),
        },
        place: None,
        summary: "its packets are dropped".to_owned(),
        packets: 12,
        finding: None,
    }
}
