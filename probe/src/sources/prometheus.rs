//! A Prometheus, asked over its HTTP API (`/api/v1/query`), without TLS.

use std::{collections::BTreeMap, io, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: u64 = 32 << 20;
const MOST_HEADERS: usize = 64;
const DEFAULT_PORT: u16 = 9090;
/// Of an error that is shown.
const LONGEST_ERROR: usize = 300;

/// Where a Prometheus is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

/// A series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Prometheus {
    /// Reads a URL such as `http://prometheus.monitoring:9090` or `http://gateway/prometheus`.
    pub fn parse(url: &str) -> Result<Self, String> {
        if url.starts_with("https://") {
            return Err(
                "TLS is not spoken here; forward a local port to it: `kubectl -n monitoring port-forward \
                 svc/prometheus 9090`, then http://127.0.0.1:9090"
                    .to_owned(),
            );
        }
        let rest = url.strip_prefix("http://").ok_or("it must begin with http://")?;
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['?', '#', '@']) {
            return Err("it may have a host, a port and a path".to_owned());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` is no port"))?)
            }
            _ => (authority, DEFAULT_PORT),
        };
        if host.is_empty() {
            return Err("it has no host".to_owned());
        }
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { host: host.to_owned(), port, path })
    }

    /// The series that an expression gives now.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Sample>> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(expression)).await;
        let answer = answer.map_err(|_| anyhow!("{self} does not answer within {PATIENCE:?}"))??;
        read(&answer).with_context(|| format!("{self} cannot be used"))
    }

    async fn exchange(&self, expression: &str) -> anyhow::Result<Vec<u8>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut stream = TcpStream::connect((host, self.port)).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => anyhow!("nothing listens at {self}"),
            _ => anyhow!("no connection to {self}: {error}"),
        })?;
        // The older version of HTTP: the answer comes in one piece, and ends with the connection.
        let request = format!(
            "GET {}/api/v1/query?query={} HTTP/1.0\r\nHost: {}:{}\r\nAccept: application/json\r\n\r\n",
            self.path,
            percent_encoded(expression),
            self.host,
            self.port
        );
        stream.write_all(request.as_bytes()).await.with_context(|| format!("{self} hung up"))?;
        let mut answer = Vec::new();
        let mut bounded = stream.take(LARGEST_ANSWER);
        bounded.read_to_end(&mut answer).await.with_context(|| format!("{self} hung up"))?;
        ensure!(bounded.limit() > 0, "{self} answers more than {} MiB", LARGEST_ANSWER >> 20);
        Ok(answer)
    }
}

impl std::fmt::Display for Prometheus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Every byte that has a meaning in a URL, and most that have none.
fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b':' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[derive(Deserialize)]
struct Reply {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    /// Seconds since 1970, and the value as text: it may be `NaN` or `+Inf`.
    value: (f64, String),
}

fn read(answer: &[u8]) -> anyhow::Result<Vec<Sample>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).context("it does not speak HTTP")?;
    let httparse::Status::Complete(length) = parsed else { bail!("its answer ends before its body") };
    let status = response.code.unwrap_or_default();
    let reply: Reply = serde_json::from_slice(answer.get(length..).unwrap_or_default())
        .with_context(|| format!("it answers {status} and is no Prometheus, or ends in the middle"))?;
    if let Some(error) = reply.error {
        let shown: String =
            error.chars().take(LONGEST_ERROR).map(|c| if c.is_control() { ' ' } else { c }).collect();
        bail!("it answers {status}: {shown}");
    }
    let vector = reply.data.filter(|data| data.result_type == "vector");
    let vector = vector.with_context(|| format!("it answers {status} without series"))?;
    let series: Vec<Series> = serde_json::from_value(vector.result).context("its series cannot be read")?;
    let sample = |series: Series| {
        Some(Sample {
            labels: series.metric,
            value: series.value.1.parse().ok().filter(|value: &f64| value.is_finite())?,
        })
    };
    Ok(series.into_iter().filter_map(sample).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(host: &str, port: u16, path: &str) -> Prometheus {
        Prometheus { host: host.to_owned(), port, path: path.to_owned() }
    }

    #[test]
    fn urls_are_read_as_people_write_them() {
        assert_eq!(Prometheus::parse("http://prometheus").unwrap(), place("prometheus", 9090, ""));
        assert_eq!(
            Prometheus::parse("http://10.0.0.1:80/prometheus/").unwrap(),
            place("10.0.0.1", 80, "/prometheus")
        );
        assert_eq!(Prometheus::parse("http://[::1]:9091").unwrap(), place("[::1]", 9091, ""));
        assert_eq!(Prometheus::parse("http://[::1]").unwrap(), place("[::1]", 9090, ""));
        for (url, why) in [
            ("https://prometheus", "TLS"),
            ("prometheus:9090", "http://"),
            ("http://:9090", "no host"),
            ("http://prometheus:port", "no port"),
            ("http://prometheus/a b", "a host, a port and a path"),
            ("http://a\r\nX: y", "a host, a port and a path"),
        ] {
            let error = Prometheus::parse(url).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn answers_are_read_and_errors_told() {
        let good = b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[\
            {\"metric\":{\"a\":\"b\"},\"value\":[1,\"0.5\"]},{\"metric\":{},\"value\":[1,\"NaN\"]}]}}";
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(read(good).unwrap(), [Sample { labels, value: 0.5 }]);
        for (answer, why) in [
            (
                "HTTP/1.0 400 Bad Request\r\n\r\n{\"status\":\"error\",\"error\":\"parse error\"}",
                "400: parse error",
            ),
            ("HTTP/1.0 502 Bad Gateway\r\n\r\n<html>", "answers 502 and is no Prometheus"),
            (
                "HTTP/1.0 200 OK\r\n\r\n{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"1\"]}}",
                "without series",
            ),
            ("SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
            ("HTTP/1.0 200", "ends before its body"),
        ] {
            let error = format!("{:#}", read(answer.as_bytes()).expect_err(answer));
            assert!(error.contains(why), "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn a_prometheus_that_is_away_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Prometheus::parse(&format!("http://{address}")).unwrap().query("up").await.unwrap_err();
        assert!(error.to_string().contains("nothing listens at http://127.0.0.1:"), "{error}");
    }

    proptest! {
        #[test]
        fn any_answer_and_any_url_is_read_without_a_panic(
            answer in prop::collection::vec(any::<u8>(), 0..200), url in ".*", host in "http://.*"
        ) {
            let _ = read(&answer);
            let _ = Prometheus::parse(&url);
            let _ = Prometheus::parse(&host);
        }
    }
}
