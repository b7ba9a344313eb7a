//! A running daemon, asked over its local API: what it counted that nobody else can tell any more.

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::{
    sample::Fact,
    state::{State, Traffic},
};

const PATIENCE: Duration = Duration::from_secs(2);
/// Ten thousand blocks are about 2 MiB.
const LARGEST_ANSWER: u64 = 64 << 20;
const MOST_HEADERS: usize = 32;

/// All that the daemon at this socket knows.
pub async fn state(socket: &Path) -> Fact<State> {
    Fact::from_result(ask(socket, "/v1/state").await)
}

/// What it counted to and from each peer.
pub async fn traffic(socket: &Path) -> Fact<Traffic> {
    Fact::from_result(ask(socket, "/v1/peers").await)
}

async fn ask<T: DeserializeOwned>(socket: &Path, page: &str) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(PATIENCE, exchange(socket, page)).await;
    let answer = answer.map_err(|_| anyhow!("the daemon at {} does not answer", socket.display()))??;
    read(&answer).with_context(|| format!("cannot read what the daemon at {} answers", socket.display()))
}

async fn exchange(socket: &Path, page: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("no daemon runs here: `caliprobe run` counts")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("{} is for root and its group alone", socket.display())
        }
        _ => anyhow!("cannot reach the daemon at {}: {error}", socket.display()),
    })?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("the daemon hung up")?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer).await.context("the daemon hung up")?;
    Ok(answer)
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(answer)? else {
        bail!("its answer ends before its body");
    };
    ensure!(response.code == Some(200), "status {}", response.code.unwrap_or_default());
    let body = answer.get(length..).unwrap_or_default();
    serde_json::from_slice(body).map_err(|error| unreadable(body, error))
}

/// The answer of a version that is too far from this one says which it is.
fn unreadable(body: &[u8], error: serde_json::Error) -> anyhow::Error {
    #[derive(Deserialize)]
    struct Stamp {
        version: String,
    }
    const OURS: &str = env!("CARGO_PKG_VERSION");
    match serde_json::from_slice::<Stamp>(body) {
        Ok(Stamp { version }) if version != OURS => {
            let theirs: String = version.chars().filter(char::is_ascii_graphic).take(20).collect();
            anyhow!("it is caliprobe {theirs} and this is {OURS}; use one version for both ({error})")
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tokio::{net::UnixListener, sync::watch};

    use super::*;
    use crate::{
        causes::Cause,
        reading::DropPlace,
        serving::{self, Settings},
    };

    #[tokio::test]
    async fn the_daemons_own_answers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let published = State { version: "9.9".to_owned(), ..State::default() };
        let (_publisher, receiver) = watch::channel(Arc::new(published));
        let settings = Settings { api: Some(socket.clone()), ..Settings::default() };
        let _serving = serving::start(&settings, receiver).unwrap();
        assert_eq!(state(&socket).await.known().map(|state| state.version.as_str()), Some("9.9"));
        assert!(traffic(&socket).await.known().is_some());
    }

    #[tokio::test]
    async fn a_daemon_that_is_away_or_silent_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let away = state(&socket).await;
        assert!(away.absent().unwrap().contains("no daemon runs here"), "{away:?}");
        let _never_accepts = UnixListener::bind(&socket).unwrap();
        let silent = state(&socket).await;
        assert!(silent.absent().unwrap().contains("does not answer"), "{silent:?}");
    }

    /// What a daemon of 0.1.0 said on a node with an open black hole.
    const STATE_OF_0_1: &str = include_str!("../../tests/api/0.1.0/state.json");
    const PEERS_OF_0_1: &str = include_str!("../../tests/api/0.1.0/peers.json");

    fn answer(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{body}").into_bytes()
    }

    fn assert_is_understood(state: &State) {
        assert_eq!(state.node.name, "guest");
        assert_eq!(state.sessions.known().map(Vec::len), Some(3));
        assert_eq!(state.tunnel.known().map(|link| link.mtu), Some(1480));
        assert!(state.reading.peers.iter().any(|peer| peer.encapsulated.segments > 0));
        assert!(state.reading.drops_counted);
        assert_eq!(state.health.covered, 5);
        let [open] = &state.black_holes[..] else { panic!("{:?}", state.black_holes) };
        assert!(open.packets > 0 && !open.summary.is_empty());
    }

    #[test]
    fn what_an_older_daemon_said_is_still_read() {
        let state: State = read(&answer(STATE_OF_0_1)).unwrap();
        assert_is_understood(&state);
        assert_eq!(state.black_holes[0].cause, Some(Cause::BlockRouteUnreachable));
        assert!(state.black_holes[0].finding.is_some());
        let traffic: Traffic = read(&answer(PEERS_OF_0_1)).unwrap();
        assert_eq!((traffic.schema_version, traffic.version.as_str()), (1, ""));
        assert!(traffic.peers.iter().any(|peer| peer.encapsulated > 0 && peer.last_heard.is_some()));
    }

    /// Adds what may be added: fields everywhere, and values where there is a word for those that are not known.
    fn of_a_newer_version(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.values_mut().for_each(of_a_newer_version);
                let is_fact =
                    object.len() == 1 && ["known", "absent"].iter().any(|key| object.contains_key(*key));
                if !is_fact {
                    object.insert("added_later".to_owned(), json!("in 0.2.0"));
                }
                for key in ["cause", "place", "kind"] {
                    let is_subject = object.contains_key("value");
                    if let Some(value) = object.get_mut(key).filter(|value| value.is_string() && !is_subject)
                    {
                        *value = json!("named-later");
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(of_a_newer_version),
            _ => {}
        }
    }

    #[test]
    fn what_a_newer_daemon_adds_is_left_out_and_the_rest_is_read() {
        let mut state: Value = serde_json::from_str(STATE_OF_0_1).unwrap();
        of_a_newer_version(&mut state);
        let state: State = read(&answer(&state.to_string())).unwrap();
        assert_is_understood(&state);
        assert_eq!(state.black_holes[0].cause, None, "it is not known here");
        assert!(state.reading.drops.iter().all(|drop| drop.place == DropPlace::Unknown));
        let mut traffic: Value = serde_json::from_str(PEERS_OF_0_1).unwrap();
        of_a_newer_version(&mut traffic);
        assert_eq!(read::<Traffic>(&answer(&traffic.to_string())).unwrap().peers.len(), 3);
    }

    #[test]
    fn a_daemon_that_is_not_understood_is_named_with_both_versions() {
        let far = read::<State>(&answer(r#"{"schema_version":9,"version":"9.0.0","node":"paas-188"}"#))
            .unwrap_err();
        let ours = env!("CARGO_PKG_VERSION");
        assert!(
            far.to_string()
                .starts_with(&format!("it is caliprobe 9.0.0 and this is {ours}; use one version")),
            "{far}"
        );
    }

    #[test]
    fn an_error_of_the_daemon_is_no_state() {
        let refused = read::<State>(b"HTTP/1.1 404 Not Found\r\n\r\n{}").unwrap_err();
        assert!(refused.to_string().contains("404"), "{refused}");
        assert!(read::<State>(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"sch").is_err());
        assert!(read::<State>(b"HTTP/1.1 200").is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<State>(&answer);
        }
    }
}
