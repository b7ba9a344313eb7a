//! A running daemon, asked over its local API: what it counted that nobody else can tell any more.

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::de::DeserializeOwned;
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
    read(&answer).with_context(|| format!("the daemon at {} answers rubbish", socket.display()))
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
    Ok(serde_json::from_slice(answer.get(length..).unwrap_or_default())?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::{net::UnixListener, sync::watch};

    use super::*;
    use crate::serving::{self, Settings};

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
