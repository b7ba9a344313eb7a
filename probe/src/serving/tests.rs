//! Listeners and clients over real sockets.

use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use super::*;
use crate::reading::{BlockCounts, Flow, PeerCounts, PeerWay};

const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon's listeners, and what it publishes.
struct Daemon {
    serving: Serving,
    publisher: watch::Sender<Arc<State>>,
    folder: TempDir,
}

impl Daemon {
    fn start(limits: Limits) -> Self {
        Self::with(State::default(), limits)
    }

    fn with(state: State, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (publisher, receiver) = watch::channel(Arc::new(state));
        let serving = start(&settings(Some(folder.path()), limits), receiver).unwrap();
        Self { serving, publisher, folder }
    }

    async fn get(&self, path: &str) -> Answer {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")).await
    }

    async fn say(&self, request: impl AsRef<[u8]>) -> Answer {
        exchange(self.connect().await, request).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.serving.metrics_address().unwrap()).await.unwrap()
    }

    async fn ask_api(&self, path: &str) -> Answer {
        let stream = UnixStream::connect(self.folder.path().join("api.sock")).await.unwrap();
        exchange(stream, format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")).await
    }
}

fn settings(folder: Option<&Path>, limits: Limits) -> Settings {
    Settings {
        api: folder.map(|folder| folder.join("api.sock")),
        metrics: Some((Ipv4Addr::LOCALHOST, 0).into()),
        limits,
        ..Settings::default()
    }
}

/// Everything that came back.
#[derive(Debug)]
struct Answer(String);

impl Answer {
    fn status(&self) -> u16 {
        self.0.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap()
    }
}

/// A client that is hung up on early is told so by an error of its writing or by an early end.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: impl AsRef<[u8]>) -> Answer {
    let _ = stream.write_all(request.as_ref()).await;
    Answer(rest(stream).await)
}

async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection was not closed");
    String::from_utf8_lossy(&answer).into_owned()
}

fn peer(peer: Ipv4Addr, encapsulated: u64, decapsulated: u64) -> PeerCounts {
    let way = |segments| PeerWay { segments, ..PeerWay::default() };
    PeerCounts { peer, encapsulated: way(encapsulated), decapsulated: way(decapsulated) }
}

const OTHER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

fn state_with_traffic(sent: u64, heard: u64) -> State {
    let mut state = State { time: "2026-01-01T00:00:01Z".to_owned(), ..State::default() };
    state.reading.time.clone_from(&state.time);
    state.reading.peers = vec![peer(OTHER, sent, heard)];
    state
}

#[tokio::test]
async fn metrics_are_served_in_the_format_that_the_scraper_takes() {
    let daemon = Daemon::with(state_with_traffic(7, 0), Limits::default());
    let text = daemon.get("/metrics/peers").await;
    assert_eq!(text.status(), 200);
    assert!(text.0.contains("content-type: text/plain; version=0.0.4"), "{text:?}");
    assert!(text.body().contains("caliprobe_peer_encapsulated_packets_total{peer=\"172.30.10.187\"} 7\n"));
    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let open =
        daemon.say(format!("GET /metrics HTTP/1.1\r\nHost: node\r\nAccept: {prometheus}\r\n\r\n")).await;
    assert!(open.0.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open:?}");
    assert!(open.body().ends_with("# EOF\n"));
}

#[tokio::test]
async fn what_is_not_served_is_refused_in_words() {
    let daemon = Daemon::start(Limits::default());
    let missing = daemon.get("/metric").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.body().contains("/metrics/peers"), "it names the pages that there are: {missing:?}");
    let post = daemon.say("POST /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(post.status(), 405);
    let body = daemon.say("GET /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(body.status(), 413);
    let chunks =
        "GET /metrics HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(daemon.say(chunks).await.status(), 413);
    let head = daemon.say("HEAD /metrics HTTP/1.1\r\nHost: node\r\n\r\n").await;
    assert_eq!((head.status(), head.body()), (200, ""));
}

#[tokio::test]
async fn rubbish_is_hung_up_on() {
    let daemon = Daemon::start(Limits::default());
    let long_header = format!("GET / HTTP/1.1\r\nHost: node\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: node\r\n{}\r\n", "X: a\r\n".repeat(1000));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    for request in [long_header.into_bytes(), many_headers.into_bytes(), tls, vec![0; 1 << 16]] {
        let answer = daemon.say(&request).await;
        assert!(matches!(answer.status(), 0 | 400 | 431), "{answer:?}");
    }
    assert_eq!(daemon.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_request_that_never_ends_is_hung_up_on() {
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    let daemon = Daemon::start(limits);
    for beginning in ["", "GET /metrics HTTP/1.1\r\nHost: no"] {
        let answer = daemon.say(beginning).await;
        assert_ne!(answer.status(), 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_no_scraper_away() {
    allow_many_files();
    let limits = Limits { request: Duration::from_millis(100), ..Limits::default() };
    let daemon = Daemon::start(limits);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(daemon.connect().await);
    }
    assert_eq!(daemon.get("/metrics").await.status(), 200);
}

fn allow_many_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_room_for_the_next() {
    let block = BlockCounts { block: "10.200.0.0/26".parse().unwrap(), flow: Flow::default() };
    let mut state = State::default();
    // More than the kernel's buffers between the two take.
    state.reading.blocks = vec![block; 100_000];
    let limits = Limits { clients: 1, connection: Duration::from_millis(300), ..Limits::default() };
    let daemon = Daemon::with(state, limits);
    let path = daemon.folder.path().join("api.sock");
    let mut greedy = UnixStream::connect(path).await.unwrap();
    greedy.write_all(b"GET /v1/state HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
    assert_eq!(daemon.ask_api("/v1/black-holes").await.status(), 200);
    let answer = Answer(rest(greedy).await);
    assert!(serde_json::from_str::<Value>(answer.body()).is_err(), "the answer ends in its middle");
}

#[tokio::test]
async fn health_is_the_age_of_the_last_reading() {
    let daemon = Daemon::start(Limits { reading: Duration::ZERO, ..Limits::default() });
    let answer = daemon.get("/healthz").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.body().contains("was read last"), "{answer:?}");
}

#[tokio::test]
async fn the_daemon_is_ready_once_every_device_has_its_programs() {
    let mut state = State::default();
    state.health.pending = 3;
    let daemon = Daemon::with(state, Limits::default());
    let answer = daemon.get("/readyz").await;
    assert_eq!((answer.status(), answer.body()), (503, "3 devices wait for their programs\n"));
    daemon.publisher.send(Arc::new(State::default())).unwrap();
    let end = Instant::now() + DEADLINE;
    while daemon.get("/readyz").await.status() != 200 {
        assert!(Instant::now() < end, "the new state is not served");
    }
}

#[tokio::test]
async fn the_local_api_tells_the_state_and_who_was_heard_when() {
    let daemon = Daemon::with(state_with_traffic(7, 2), Limits::default());
    let state: State = serde_json::from_value(daemon.ask_api("/v1/state").await.json()).unwrap();
    assert_eq!(state.reading.peers, [peer(OTHER, 7, 2)]);
    let traffic: crate::state::Traffic =
        serde_json::from_value(daemon.ask_api("/v1/peers").await.json()).unwrap();
    assert_eq!(traffic.peers.len(), 1);
    assert_eq!(traffic.peers[0].last_heard.as_deref(), Some("2026-01-01T00:00:01Z"));
    assert_eq!(daemon.ask_api("/v1/black-holes").await.json()["black_holes"], Value::Array(Vec::new()));
    let missing = daemon.ask_api("/v2/state").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.json()["error"]["message"], "there is no such page");
}

#[derive(Debug)]
struct Lines(anyhow::Result<String>);

impl Journal for Lines {
    fn lines(&self) -> anyhow::Result<String> {
        self.0.as_ref().map(Clone::clone).map_err(|error| anyhow!("{error}"))
    }
}

#[tokio::test]
async fn events_are_served_where_there_is_a_journal() {
    for (lines, status) in [(Ok("{}\n".to_owned()), 200), (Err(anyhow!("the disk is gone")), 500)] {
        let folder = tempfile::tempdir().unwrap();
        let (_publisher, receiver) = watch::channel(Arc::default());
        let journal: Option<Arc<dyn Journal>> = Some(Arc::new(Lines(lines)));
        let settings = Settings { journal, ..settings(Some(folder.path()), Limits::default()) };
        let _serving = start(&settings, receiver).unwrap();
        let stream = UnixStream::connect(folder.path().join("api.sock")).await.unwrap();
        let answer = exchange(stream, "GET /v1/events HTTP/1.1\r\nHost: node\r\n\r\n").await;
        assert_eq!(answer.status(), status, "{answer:?}");
    }
    assert_eq!(Daemon::start(Limits::default()).ask_api("/v1/events").await.status(), 404);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let daemon = Daemon::start(Limits::default());
    let (_publisher, receiver) = watch::channel(Arc::default());
    let settings =
        Settings { metrics: daemon.serving.metrics_address(), ..settings(None, Limits::default()) };
    let error = format!("{:#}", start(&settings, receiver).unwrap_err());
    assert!(error.contains("another program listens there") && error.contains("--listen"), "{error}");
}

fn bind(path: &Path) -> Result<Serving, String> {
    let (_publisher, receiver) = watch::channel(Arc::default());
    let settings = Settings { api: Some(path.to_owned()), ..Settings::default() };
    start(&settings, receiver).map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn the_api_socket_is_for_owner_and_group_and_goes_with_its_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/api.sock");
    let serving = bind(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let refused = bind(&path).unwrap_err();
    assert!(refused.contains("another caliprobe serves it"), "{refused}");
    assert!(UnixStream::connect(&path).await.is_ok(), "the refused one took nothing away");
    drop(serving);
    // The accepting task ends, and with it the last handle of the socket.
    let end = Instant::now() + DEADLINE;
    while path.exists() {
        assert!(Instant::now() < end);
        tokio::task::yield_now().await;
    }
    bind(&path).unwrap();
}

#[tokio::test]
async fn only_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let living = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let refused = bind(&path).unwrap_err();
    assert!(refused.contains("another program serves it"), "{refused}");
    drop(living);
    let serving = bind(&path).unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(serving);

    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let refused = bind(&file).unwrap_err();
    assert!(refused.contains("no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}
