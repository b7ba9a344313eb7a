//! The remote trace API of the daemon on another node, over mutual TLS. The node is verified by the name or address
//! with which it is called before it is sent anything: a next hop that is out of date may be a stranger. One request
//! lasts as long as the watch; the end of its body says that all probes are sent.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use http_body_util::{
    BodyExt as _,
    channel::{Channel, Sender},
};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    LONGEST_REMOTE_WATCH,
    answer::{LONGEST_DOCUMENT, LONGEST_READY, read_answer, read_error, read_ready},
};
use crate::{
    diagnosis::FarEnd,
    probing::marks::Marks,
    tls::{self, Identity, Refusal},
};

/// Where the remote trace API is, unless something else is said: beside the metrics.
pub const REMOTE_PORT: u16 = 10476;
/// For the connection, and for its handshake.
const CONNECTING: Duration = Duration::from_secs(5);
/// The smallest buffer that hyper takes; the status line and the headers must fit.
const HEAD: usize = 8 << 10;
/// The longest refusal that is read.
const LONGEST_REFUSAL: usize = 4096;

/// Where a node is asked: `https://NODE[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    /// As it stands in the node's certificate.
    name: ServerName<'static>,
    /// As it is resolved and shown.
    host: String,
    port: u16,
}

impl PeerUrl {
    /// Reads a URL such as `https://paas-187:10476`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("https://").ok_or("it must begin with https://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) || !authority.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("it may have a host and a port".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, read_port(port)?),
            _ => (authority, REMOTE_PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let name = ServerName::try_from(host.clone())
            .map_err(|_| format!("`{host}` is no name or address of a host"))?;
        Ok(Self { name, host, port })
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{text}` is no port"))
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)) => {
                write!(text, "https://[{}]:{}", self.host, self.port)
            }
            _ => write!(text, "https://{}:{}", self.host, self.port),
        }
    }
}

/// The files with which this side shows who it is, and knows who is asked.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// PEM: the authorities of the nodes' certificates.
    pub authorities: PathBuf,
    pub identity: Identity,
}

/// A node that can be asked; the files are good.
#[derive(Clone)]
pub struct RemotePeer {
    url: PeerUrl,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for RemotePeer {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "RemotePeer({})", self.url)
    }
}

impl RemotePeer {
    /// Fails where the files cannot be used.
    pub fn new(url: PeerUrl, credentials: &Credentials) -> anyhow::Result<Self> {
        Ok(Self { url, config: tls::client(&credentials.identity, &credentials.authorities)? })
    }

    /// Asks, and waits until it watches.
    pub(super) async fn ask(
        &self,
        flow: &Marks,
        length: Duration,
        without_bpf: bool,
    ) -> anyhow::Result<RemoteTrace> {
        let trace = self.try_ask(flow, length, without_bpf).await;
        trace.with_context(|| self.url.to_string())
    }

    async fn try_ask(
        &self,
        flow: &Marks,
        length: Duration,
        without_bpf: bool,
    ) -> anyhow::Result<RemoteTrace> {
        let stream = self.connect().await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(hung_up)?;
        let mut connections = JoinSet::new();
        // Its errors come out where its answers are awaited.
        connections.spawn(async move { drop(connection.await) });
        let (probing, body) = Channel::new(1);
        let answer = send(&mut sender, self.request(flow, length, without_bpf, body)?).await?;
        let mut trace = RemoteTrace { probing, answer, unread: Vec::new(), _connection: connections };
        trace.ready().await?;
        Ok(trace)
    }

    /// Connects, and verifies the node.
    async fn connect(&self) -> anyhow::Result<TlsStream<TcpStream>> {
        let PeerUrl { name, host, port } = &self.url;
        let deadline = Instant::now() + CONNECTING;
        let connected = tokio::time::timeout_at(deadline, TcpStream::connect((host.as_str(), *port))).await;
        let stream = connected.map_err(|_| late("no connection"))?.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                anyhow!("nothing listens there: does the daemon run with --remote-listen?")
            }
            _ => anyhow!("no connection: {error}"),
        })?;
        let connector = TlsConnector::from(self.config.clone());
        let secured = timeout(CONNECTING, connector.connect(name.clone(), stream)).await;
        secured.map_err(|_| late("no TLS handshake"))?.map_err(hung_up)
    }

    fn request(
        &self,
        flow: &Marks,
        length: Duration,
        without_bpf: bool,
        body: Channel<Bytes>,
    ) -> anyhow::Result<Request<Channel<Bytes>>> {
        let seconds = length.min(LONGEST_REMOTE_WATCH).as_secs().max(1);
        let programs = if without_bpf { "&no-bpf" } else { "" };
        let request = Request::post(format!("/v1/observe/{flow}?seconds={seconds}{programs}"));
        Ok(request.header(HOST, format!("{}:{}", self.url.host, self.url.port)).body(body)?)
    }
}

/// A node that watches. It ends its watch when this is dropped.
pub struct RemoteTrace {
    /// The request's body, which ends when all probes are sent.
    probing: Sender<Bytes>,
    answer: Incoming,
    /// Bytes of the document that came with the line before it.
    unread: Vec<u8>,
    _connection: JoinSet<()>,
}

impl RemoteTrace {
    async fn ready(&mut self) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let end = loop {
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                break end + 1;
            }
            match self.more().await? {
                Some(bytes) if text.len() < LONGEST_READY => text.extend_from_slice(&bytes),
                _ => break text.len(),
            }
        };
        self.unread = text.split_off(end);
        read_ready(&text)
    }

    /// Tells that all is sent, and takes what was seen.
    pub(super) async fn finish(self) -> anyhow::Result<FarEnd> {
        let Self { probing, answer, unread, _connection } = self;
        drop(probing);
        read_answer(&rest(answer, unread, LONGEST_DOCUMENT).await?)
    }

    async fn more(&mut self) -> anyhow::Result<Option<Bytes>> {
        more(&mut self.answer).await
    }
}

async fn send(
    sender: &mut SendRequest<Channel<Bytes>>,
    request: Request<Channel<Bytes>>,
) -> anyhow::Result<Incoming> {
    let (head, body) = sender.send_request(request).await.map_err(hung_up)?.into_parts();
    if head.status == StatusCode::OK {
        return Ok(body);
    }
    let said = rest(body, Vec::new(), LONGEST_REFUSAL).await.unwrap_or_default();
    match read_error(&said) {
        Some(error) => bail!("caliprobe there: {error}"),
        None => bail!("it answers {} and is no caliprobe", head.status),
    }
}

async fn more(body: &mut Incoming) -> anyhow::Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(hung_up)?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

async fn rest(mut body: Incoming, mut text: Vec<u8>, most: usize) -> anyhow::Result<Vec<u8>> {
    while let Some(bytes) = more(&mut body).await? {
        ensure!(text.len() + bytes.len() <= most, "its answer is longer than {} KiB", most >> 10);
        text.extend_from_slice(&bytes);
    }
    Ok(text)
}

fn late(what: &str) -> anyhow::Error {
    anyhow!("{what} within {} s", CONNECTING.as_secs())
}

/// What ended a connection: mostly a certificate that one side does not take.
fn hung_up(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    match tls::cause(&error) {
        Some(cause) => anyhow!("{}", Refusal(cause)),
        None => anyhow::Error::from(error).context("it hung up"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        for (url, shown) in [
            ("https://paas-187", "https://paas-187:10476"),
            ("https://172.30.10.187:443/", "https://172.30.10.187:443"),
            ("https://[fd00::1]", "https://[fd00::1]:10476"),
            ("https://[fd00::1]:1", "https://[fd00::1]:1"),
        ] {
            assert_eq!(PeerUrl::parse(url).unwrap().to_string(), shown);
        }
        for (url, why) in [
            ("http://paas-187", "https://"),
            ("paas-187:10476", "https://"),
            ("https://", "no name or address"),
            ("https://a b", "a host and a port"),
            ("https://paas-187/v1", "a host and a port"),
            ("https://user@paas-187", "a host and a port"),
            ("https://paas-187:0", "no port"),
            ("https://paas-187:http", "no port"),
        ] {
            let error = PeerUrl::parse(url).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_url_is_read_without_a_panic(url in "https://\\PC{0,40}|\\PC{0,40}") {
            let _ = PeerUrl::parse(&url);
        }
    }
}
