//! Felix' own word on whether it is ready: the kubelet asks the same place (`felix/health`, port 9099).

use std::{io, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::sample::FelixReadiness;

/// Where calico-node's probes ask, unless `FELIX_HEALTHPORT` says otherwise.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9099);
const PATIENCE: Duration = Duration::from_secs(2);
const REQUEST: &str = "GET /readiness HTTP/1.1\r\nHost: localhost:9099\r\nConnection: close\r\n\r\n";
const LARGEST_ANSWER: u64 = 64 << 10;
const MOST_HEADERS: usize = 32;

/// Asks; an error where nothing answers, which alone proves nothing: the endpoint may be switched off.
pub async fn read() -> anyhow::Result<FelixReadiness> {
    let silent = || FelixReadiness { status: None, message: format!("no answer within {PATIENCE:?}") };
    tokio::time::timeout(PATIENCE, ask()).await.unwrap_or_else(|_| Ok(silent()))
}

async fn ask() -> anyhow::Result<FelixReadiness> {
    let mut stream = TcpStream::connect(ADDRESS).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => anyhow!("nothing listens at 127.0.0.1:9099"),
        _ => anyhow!("no connection to 127.0.0.1:9099: {error}"),
    })?;
    stream.write_all(REQUEST.as_bytes()).await.context("127.0.0.1:9099 closed the connection")?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer).await.context("127.0.0.1:9099 stopped answering")?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> anyhow::Result<FelixReadiness> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(answer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => bail!("127.0.0.1:9099 closed the connection within its answer"),
        Err(error) => bail!("127.0.0.1:9099 does not speak HTTP: {error}"),
    };
    let body = String::from_utf8_lossy(answer.get(length..).unwrap_or_default());
    let message = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let message = message.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
    Ok(FelixReadiness { status: response.code, message })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_status_and_the_first_line_are_read() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\nnot ready\n";
        let readiness = parse(answer).unwrap();
        assert_eq!((readiness.status, readiness.message.as_str()), (Some(503), "not ready"));
        assert!(parse(b"HTTP/1.1 200").is_err());
        assert!(parse(b"\x16\x03\x01\x02").is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&answer);
        }
    }
}
