//! A node whose daemon serves the remote trace API, with an observer that the test makes, and one that asks it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use caliprobe::{
    diagnosis::FarEnd,
    observation::{Observation, Traffic},
    probing::{
        marks::{Cookie, Marks},
        peer::{Credentials, Peer, PeerUrl, PeerWay, RemotePeer},
    },
    report::observed::ObservedDocument,
    sample::{FORMAT_VERSION, Sample},
    serving::{self, Limits, Observer, Remote, Serving, Settings, Trace},
    state::State,
    tls::Identity,
};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::certificates::{Authority, VALID};

/// The address that it is called by.
pub const NODE: &str = "127.0.0.1";

/// What was asked of the observer, in order.
#[derive(Debug, Default)]
pub struct Observed {
    pub traces: Mutex<Vec<Trace>>,
    /// Whether the watches were ended by who asked, rather than because nobody waited any more.
    pub ended: Mutex<Vec<bool>>,
    /// Why there is nothing to be seen, before or after this node is ready.
    pub fails: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    AtOnce,
    InTheEnd,
}

impl Observer for Observed {
    fn observe(
        &self,
        trace: Trace,
        ready: oneshot::Sender<Vec<u8>>,
        end: oneshot::Receiver<()>,
    ) -> Result<Vec<u8>> {
        let flow = trace.flow.clone();
        self.traces.lock().expect("no test panics with it").push(trace);
        if self.fails == Some(Failure::AtOnce) {
            bail!("no privileges");
        }
        // Who asked may be gone.
        let _ = ready.send(b"{\"ready\":true,\"schema_version\":1}\n".to_vec());
        let ended = end.blocking_recv().is_ok();
        self.ended.lock().expect("no test panics with it").push(ended);
        if self.fails == Some(Failure::InTheEnd) {
            bail!("the second look failed");
        }
        Ok(serde_json::to_vec(&ObservedDocument::new(&flow, facts()))?)
    }
}

pub fn facts() -> FarEnd {
    let sample = Sample { format_version: FORMAT_VERSION, ..Sample::default() };
    let observed = Observation { missed: vec!["as told".to_owned()], ..Observation::default() };
    FarEnd { before: sample.clone(), after: sample, observed }
}

pub fn flow() -> Marks {
    Marks {
        cookie: Cookie([7; 16]),
        target: Ipv4Addr::new(10, 200, 153, 70),
        traffic: Traffic::Echo,
        sent_from: std::collections::BTreeMap::default(),
    }
}

/// A node, the authority of the cluster, and a certificate for who asks.
pub struct Node {
    pub folder: TempDir,
    pub authority: Authority,
    pub observed: Arc<Observed>,
    /// The file of the authority.
    pub ca: PathBuf,
    pub caller: Identity,
    serving: Serving,
    _publisher: watch::Sender<Arc<State>>,
}

impl Node {
    pub fn start() -> Result<Self> {
        Self::with(Observed::default(), &[NODE, "paas-187"])
    }

    /// With a certificate for these names.
    pub fn named(names: &[&str]) -> Result<Self> {
        Self::with(Observed::default(), names)
    }

    pub fn with(observed: Observed, names: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new()?;
        let identity = authority.certify(&folder.path().join("node"), names, VALID)?;
        Self::of(folder, authority, identity, observed)
    }

    pub fn of(folder: TempDir, authority: Authority, identity: Identity, observed: Observed) -> Result<Self> {
        let ca = folder.path().join("ca.pem");
        authority.write(&ca)?;
        let caller = authority.certify(&folder.path().join("caller"), &["paas-188"], VALID)?;
        let observed = Arc::new(observed);
        let remote = Remote {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            identity,
            clients: ca.clone(),
            observer: observed.clone(),
        };
        let limits = Limits { request: Duration::from_secs(1), ..Limits::default() };
        let settings = Settings { remote: Some(remote), limits, ..Settings::default() };
        let (publisher, receiver) = watch::channel(Arc::default());
        let serving = serving::start(&settings, receiver)?;
        Ok(Self { folder, authority, observed, ca, caller, serving, _publisher: publisher })
    }

    pub fn address(&self) -> Result<SocketAddr> {
        self.serving.remote_address().context("it does not listen")
    }

    /// Asks it as the cluster's other nodes do.
    pub async fn ask(&self) -> Result<Peer> {
        self.ask_as(&self.caller).await
    }

    pub async fn ask_as(&self, caller: &Identity) -> Result<Peer> {
        ask(self.address()?, &self.ca, caller).await
    }

    /// The same, as often as another trace runs there.
    pub async fn ask_once_it_is_free(&self) -> Result<Peer> {
        loop {
            match self.ask().await {
                Err(error) if format!("{error:#}").contains("another trace runs") => {}
                asked => return asked,
            }
        }
    }

    pub fn traces(&self) -> usize {
        self.observed.traces.lock().expect("no test panics with it").len()
    }
}

/// Asks whatever listens there.
pub async fn ask(address: SocketAddr, ca: &std::path::Path, caller: &Identity) -> Result<Peer> {
    let url = PeerUrl::parse(&format!("https://{address}")).map_err(anyhow::Error::msg)?;
    let credentials = Credentials { authorities: ca.to_owned(), identity: caller.clone() };
    let way = PeerWay::Remote(RemotePeer::new(url, &credentials)?);
    Peer::start(&way, &flow(), Duration::from_secs(8), false).await
}

/// What a refused caller is told.
pub fn refusal<T>(result: Result<T>) -> String {
    result.map(|_| "not refused").map_or_else(|error| format!("{error:#}"), str::to_owned)
}
