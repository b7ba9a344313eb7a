//! The remote trace API: `POST /v1/observe/FLOW?seconds=N` answers a line once this node watches for the flow's
//! probes, watches until the request's body ends, and answers what it saw, as `caliprobe observe` prints both. Only
//! who has a certificate of the clients' authorities gets this far.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration, time::Instant};

use http_body_util::{
    BodyExt as _,
    channel::{Channel, Sender},
};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
};
use tokio::sync::oneshot;

use super::{
    allowance::{Allowance, Permission},
    answers::{Answer, api_error, as_it_comes},
    security::Client,
};
use crate::{
    probing::{marks::Marks, peer::LONGEST_REMOTE_WATCH},
    report::error,
    tls::Identity,
};

const PATH: &str = "/v1/observe/";
/// More than a client says that says nothing but that its probes are sent.
const LONGEST_BODY: usize = 4096;

/// How the remote trace API is served.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where to listen.
    pub address: SocketAddr,
    /// How this node shows who it is.
    pub identity: Identity,
    /// PEM: the authorities of those who may ask.
    pub clients: PathBuf,
    pub observer: Arc<dyn Observer>,
}

/// What a peer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub flow: Marks,
    /// The longest that is watched.
    pub length: Duration,
    /// By packet sockets alone.
    pub without_bpf: bool,
}

/// What follows a flow on this node.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Runs on a thread of its own. Sends a line once no probe is missed any more, watches until `end`, which fails
    /// where nobody waits any more, and returns a document.
    fn observe(
        &self,
        trace: Trace,
        ready: oneshot::Sender<Vec<u8>>,
        end: oneshot::Receiver<()>,
    ) -> anyhow::Result<Vec<u8>>;
}

#[derive(Debug)]
pub(super) struct RemoteSite {
    observer: Arc<dyn Observer>,
    allowance: Allowance,
}

/// An observation at work on its thread.
struct Running {
    ready: oneshot::Receiver<Vec<u8>>,
    end: oneshot::Sender<()>,
    document: oneshot::Receiver<anyhow::Result<Vec<u8>>>,
}

impl RemoteSite {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, allowance: Allowance::new() }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, client: Option<Client>) -> Answer {
        let Some(flow) = request.uri().path().strip_prefix(PATH) else {
            return api_error(StatusCode::NOT_FOUND, "there is nothing here but /v1/observe/FLOW");
        };
        if *request.method() != Method::POST {
            return api_error(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered");
        }
        let trace = match trace(flow, request.uri().query().unwrap_or_default()) {
            Ok(trace) => trace,
            Err(why) => return api_error(StatusCode::BAD_REQUEST, &why),
        };
        // The handshake lets nobody through without one.
        let Some(client) = client else {
            return api_error(StatusCode::FORBIDDEN, "who asks has no certificate");
        };
        let permission = match self.allowance.begin(&client.certificate, Instant::now()) {
            Ok(permission) => permission,
            Err(denied) => return api_error(StatusCode::TOO_MANY_REQUESTS, &denied.words()),
        };
        tracing::info!("{} has probes to {} followed", client.address, trace.flow.target);
        let running = start(self.observer.clone(), trace, permission);
        answer(running, request.into_body()).await
    }
}

fn trace(flow: &str, query: &str) -> Result<Trace, String> {
    let flow = flow.parse().map_err(|error| format!("{error}"))?;
    let mut trace = Trace { flow, length: LONGEST_REMOTE_WATCH, without_bpf: false };
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("seconds", number)) => {
                let seconds = number.parse().ok().filter(|seconds| (1..=10).contains(seconds));
                trace.length = Duration::from_secs(seconds.ok_or("seconds is a number from 1 to 10")?);
            }
            None if setting == "no-bpf" => trace.without_bpf = true,
            _ => return Err("a trace has seconds and no-bpf, and no other setting".to_owned()),
        }
    }
    Ok(trace)
}

/// On a thread of its own: a look at the node takes long, and packets are counted meanwhile.
fn start(observer: Arc<dyn Observer>, trace: Trace, permission: Permission) -> Running {
    let ((say_ready, ready), (end, ended), (tell, document)) =
        (oneshot::channel(), oneshot::channel(), oneshot::channel());
    thread::spawn(move || {
        let outcome = observer.observe(trace, say_ready, ended);
        drop(permission);
        // Nobody waits for it any more where this fails.
        let _ = tell.send(outcome);
    });
    Running { ready, end, document }
}

async fn answer(running: Running, body: Incoming) -> Answer {
    let Running { ready, end, document } = running;
    let Ok(line) = ready.await else {
        return api_error(StatusCode::INTERNAL_SERVER_ERROR, &failure(document).await);
    };
    let (lines, answer) = Channel::new(1);
    tokio::spawn(tell(line, end, document, lines, body));
    as_it_comes(answer)
}

/// Whatever fails here does because the client hung up; the watch ends with `end`.
async fn tell(
    line: Vec<u8>,
    end: oneshot::Sender<()>,
    document: oneshot::Receiver<anyhow::Result<Vec<u8>>>,
    mut lines: Sender<Bytes>,
    body: Incoming,
) {
    if lines.send_data(line.into()).await.is_err() || !ends(body).await {
        return;
    }
    // It may have ended by itself.
    let _ = end.send(());
    let text = match document.await {
        Ok(Ok(document)) => document,
        Ok(Err(error)) => error::document(&format!("{error:#}")).into_bytes(),
        Err(_) => error::document("the observation broke off").into_bytes(),
    };
    let _ = lines.send_data(text.into()).await;
}

async fn failure(document: oneshot::Receiver<anyhow::Result<Vec<u8>>>) -> String {
    match document.await {
        Ok(Err(error)) => format!("{error:#}"),
        _ => "the observation broke off".to_owned(),
    }
}

/// Waits for the end of a body; false where the connection ended before, or the body is long.
async fn ends(mut body: Incoming) -> bool {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += match frame {
            Ok(frame) => frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return false,
        };
        if length > LONGEST_BODY {
            return false;
        }
    }
    true
}
