//! Which request gets which answer.

use std::{sync::Arc, time::Duration};

use http_body_util::{Either, Full, channel::Channel};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;
use serde_json::json;

use super::{Journal, knowledge::Knowledge, remote::RemoteSite, security::Client};
use crate::report::{
    document::SCHEMA_VERSION,
    error,
    metrics::{Format, Page},
};

/// A page, or what comes as it happens.
pub(super) type Answer = Response<Either<Full<Bytes>, Channel<Bytes>>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";

const METRICS_PAGES: &str = "\
/metrics        this node
/metrics/peers  two counters for each peer
/healthz        whether the daemon goes on reading its ledger
/readyz         whether every device has its programs
";

/// What one listener serves.
#[derive(Debug)]
pub(super) enum Site {
    Pages(Pages),
    Remote(RemoteSite),
}

/// Pages that are there to be read.
#[derive(Debug)]
pub(super) enum Pages {
    Metrics { knowledge: Knowledge, oldest_reading: Duration },
    Api { knowledge: Knowledge, journal: Option<Arc<dyn Journal>> },
}

impl Site {
    pub(super) fn metrics(knowledge: Knowledge, oldest_reading: Duration) -> Arc<Self> {
        Arc::new(Self::Pages(Pages::Metrics { knowledge, oldest_reading }))
    }

    pub(super) fn api(knowledge: Knowledge, journal: Option<Arc<dyn Journal>>) -> Arc<Self> {
        Arc::new(Self::Pages(Pages::Api { knowledge, journal }))
    }

    pub(super) fn remote(site: RemoteSite) -> Arc<Self> {
        Arc::new(Self::Remote(site))
    }

    /// `client` is who asks, where that is known.
    pub(super) async fn answer(&self, request: Request<Incoming>, client: Option<Client>) -> Answer {
        match self {
            Self::Pages(pages) => pages.answer(&request).await,
            Self::Remote(site) => site.answer(request, client).await,
        }
    }
}

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = self.refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if !request.body().is_end_stream() {
            return self.refuse(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken");
        }
        match self {
            Self::Metrics { knowledge, oldest_reading } => metrics(knowledge, *oldest_reading, request),
            Self::Api { knowledge, journal } => api(knowledge, journal.clone(), request).await,
        }
        .unwrap_or_else(|| self.refuse(StatusCode::NOT_FOUND, "there is no such page"))
    }

    fn refuse(&self, status: StatusCode, why: &str) -> Answer {
        match self {
            Self::Metrics { .. } => answer(status, TEXT, format!("{why}\n\n{METRICS_PAGES}")),
            Self::Api { .. } => api_error(status, why),
        }
    }
}

fn metrics(knowledge: &Knowledge, oldest: Duration, request: &Request<Incoming>) -> Option<Answer> {
    match request.uri().path() {
        "/" => Some(answer(StatusCode::OK, TEXT, METRICS_PAGES)),
        "/metrics" => Some(page(knowledge, Page::Node, request)),
        "/metrics/peers" => Some(page(knowledge, Page::Peers, request)),
        "/healthz" => Some(health(knowledge, oldest)),
        "/readyz" => Some(readiness(knowledge)),
        _ => None,
    }
}

fn page(knowledge: &Knowledge, page: Page, request: &Request<Incoming>) -> Answer {
    let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    answer(StatusCode::OK, format.content_type(), knowledge.metrics(page, format))
}

fn health(knowledge: &Knowledge, oldest: Duration) -> Answer {
    let age = knowledge.age();
    if age > oldest {
        let text = format!("the ledger was read last {} s ago\n", age.as_secs());
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
    }
    answer(StatusCode::OK, TEXT, "healthy\n")
}

fn readiness(knowledge: &Knowledge) -> Answer {
    let health = &knowledge.state().health;
    if health.pending > 0 {
        let text = format!("{} devices wait for their programs\n", health.pending);
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
    }
    answer(StatusCode::OK, TEXT, "ready\n")
}

async fn api(
    knowledge: &Knowledge,
    journal: Option<Arc<dyn Journal>>,
    request: &Request<Incoming>,
) -> Option<Answer> {
    match request.uri().path() {
        "/v1/state" => Some(document(&*knowledge.state())),
        "/v1/black-holes" => {
            let state = knowledge.state();
            let open = &state.black_holes;
            Some(document(&json!({
                "schema_version": SCHEMA_VERSION,
                "version": state.version,
                "time": state.time,
                "black_holes": open,
            })))
        }
        "/v1/peers" => Some(document(&knowledge.traffic())),
        "/v1/events" => Some(events(journal?).await),
        _ => None,
    }
}

async fn events(journal: Arc<dyn Journal>) -> Answer {
    // The disk may be slow, and packets are counted meanwhile.
    match tokio::task::spawn_blocking(move || journal.lines()).await {
        Ok(Ok(lines)) => answer(StatusCode::OK, JSON_LINES, lines),
        Ok(Err(error)) => api_error(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
        Err(_) => api_error(StatusCode::INTERNAL_SERVER_ERROR, "the journal could not be read"),
    }
}

fn document(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(json) => answer(StatusCode::OK, JSON, json),
        Err(error) => api_error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(super) fn api_error(status: StatusCode, why: &str) -> Answer {
    answer(status, JSON, error::document(why))
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    with_body(status, content_type, Either::Left(Full::new(body.into())))
}

/// Documents that are sent as they come to be.
pub(super) fn as_it_comes(lines: Channel<Bytes>) -> Answer {
    with_body(StatusCode::OK, JSON_LINES, Either::Right(lines))
}

fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: Either<Full<Bytes>, Channel<Bytes>>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
