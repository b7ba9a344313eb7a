//! What a running daemon tells others: the local API on a unix socket, which the other commands ask; metrics and
//! health over TCP; and, where it is wanted, the remote trace API over mutual TLS. All are HTTP/1, answer one request a
//! connection, and are bounded in size, number and time; who asks too slowly is hung up on.

mod allowance;
mod answers;
mod api_socket;
mod connections;
mod knowledge;
mod remote;
mod security;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
};

pub use self::remote::{Observer, Remote, Trace};
use self::{
    answers::Site,
    api_socket::ApiSocket,
    connections::{Listener, accept},
    knowledge::Knowledge,
    remote::RemoteSite,
    security::Security,
};
use crate::{state::State, tls::Identity};

/// Where metrics are served: beside the ports 9100 to 9999, all of which some exporter has as its own.
pub const METRICS_ADDRESS: &str = "127.0.0.1:10475";
/// Where the local API is.
pub const API_SOCKET: &str = "/run/caliprobe/api.sock";

/// Connections that wait for being accepted; more are refused by the kernel.
const BACKLOG: u32 = 1024;

/// Where to serve what.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The path of the local API's socket; no API without.
    pub api: Option<PathBuf>,
    /// Where to listen for scrapers; no metrics without.
    pub metrics: Option<SocketAddr>,
    /// With what metrics are served over TLS; plain HTTP without.
    pub metrics_identity: Option<Identity>,
    /// The remote trace API; off without.
    pub remote: Option<Remote>,
    pub limits: Limits,
    /// What `/v1/events` answers; no such page without.
    pub journal: Option<Arc<dyn Journal>>,
}

/// The events on disk.
pub trait Journal: std::fmt::Debug + Send + Sync {
    /// All that it holds, a line of JSON each, the oldest first.
    fn lines(&self) -> anyhow::Result<String>;
}

/// Bounds on what clients can take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Scrapers that are served at the same time; more wait.
    pub scrapers: usize,
    /// Clients of the local API that are served at the same time. Its answers are large.
    pub clients: usize,
    /// Connections of the remote trace API that are served at the same time, refused ones among them.
    pub peers: usize,
    /// How long a request may take to come in.
    pub request: Duration,
    /// How long a connection may last, the answer included.
    pub connection: Duration,
    /// The same of the remote trace API, which has to load its programs, to watch, and to look at the node twice.
    pub trace: Duration,
    /// How old the last reading may be before the daemon is no longer called healthy.
    pub reading: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            scrapers: 128,
            clients: 8,
            peers: 64,
            request: Duration::from_secs(2),
            connection: Duration::from_secs(20),
            trace: Duration::from_mins(1),
            reading: Duration::from_secs(30),
        }
    }
}

/// Listeners at work; they end, and the socket is removed, when this is dropped.
#[derive(Debug)]
pub struct Serving {
    metrics: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    _tasks: JoinSet<()>,
    _api: Option<Arc<ApiSocket>>,
}

impl Serving {
    /// Where metrics are served, with the port that the kernel chose where 0 was asked for.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The same of the remote trace API.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.remote
    }
}

/// Listens, and serves what the daemon publishes. Needs a running tokio runtime.
pub fn start(settings: &Settings, state: watch::Receiver<Arc<State>>) -> anyhow::Result<Serving> {
    let limits = settings.limits;
    let knowledge = Knowledge::new(&state);
    let mut tasks = JoinSet::new();
    let mut metrics = None;
    if let Some(address) = settings.metrics {
        let identity = settings.metrics_identity.clone();
        let security = identity.map(|identity| Security::new(identity, None)).transpose()?;
        let listener = listen(address).with_context(|| cannot_listen(address))?;
        metrics = Some(listener.local_addr()?);
        let site = Site::metrics(knowledge.clone(), limits.reading);
        tasks.spawn(accept(Listener::Tcp(listener, security), limits.scrapers, site, limits));
    }
    let mut remote = None;
    if let Some(Remote { address, identity, clients, observer }) = &settings.remote {
        let security = Security::new(identity.clone(), Some(clients.clone()))?;
        let listener = listen(*address).with_context(|| cannot_be_asked(*address))?;
        remote = Some(listener.local_addr()?);
        let site = Site::remote(RemoteSite::new(observer.clone()));
        let limits = Limits { connection: limits.trace, ..limits };
        tasks.spawn(accept(Listener::Tcp(listener, Some(security)), limits.peers, site, limits));
    }
    let mut api = None;
    if let Some(path) = &settings.api {
        let socket = Arc::new(ApiSocket::bind(path)?);
        let site = Site::api(knowledge.clone(), settings.journal.clone());
        tasks.spawn(accept(Listener::Unix(socket.clone()), limits.clients, site, limits));
        api = Some(socket);
    }
    tasks.spawn(knowledge.follow(state));
    Ok(Serving { metrics, remote, _tasks: tasks, _api: api })
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart is not held up by the connections of the daemon before.
    socket.set_reuseaddr(true)?;
    socket.bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!("another program listens there"),
        std::io::ErrorKind::AddrNotAvailable => anyhow!("no interface has this address"),
        _ => error.into(),
    })?;
    Ok(socket.listen(BACKLOG)?)
}

fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot serve metrics at {address}; choose another place with --listen, or --no-metrics")
}

fn cannot_be_asked(address: SocketAddr) -> String {
    format!("cannot serve the remote trace API at {address}; choose another place with --remote-listen")
}

#[cfg(test)]
mod tests;
