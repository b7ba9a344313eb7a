//! What the daemon published last, and the sums over all that it published.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    model::totals::Totals,
    report::metrics::{self, Facts, Format, Page},
    state::{State, Traffic},
};

/// Shared by everything that answers.
#[derive(Clone, Debug)]
pub(super) struct Knowledge(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    state: Arc<State>,
    totals: Totals,
    since: Instant,
    written_in: Vec<(Page, Duration)>,
}

impl Knowledge {
    pub(super) fn new(state: &watch::Receiver<Arc<State>>) -> Self {
        let state = state.borrow().clone();
        let mut totals = Totals::default();
        totals.advance(&state);
        Self(Arc::new(Mutex::new(Known { state, totals, since: Instant::now(), written_in: Vec::new() })))
    }

    /// Takes in every state, until the daemon publishes no more.
    pub(super) async fn follow(self, mut published: watch::Receiver<Arc<State>>) {
        while published.changed().await.is_ok() {
            let state = published.borrow_and_update().clone();
            let mut known = self.known();
            known.totals.advance(&state);
            known.state = state;
            known.since = Instant::now();
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.known().state.clone()
    }

    /// How long ago the last state came.
    pub(super) fn age(&self) -> Duration {
        self.known().since.elapsed()
    }

    pub(super) fn traffic(&self) -> Traffic {
        let known = self.known();
        let state = &known.state;
        Traffic {
            schema_version: state.schema_version,
            version: state.version.clone(),
            started: state.started.clone(),
            time: state.time.clone(),
            peers: known.totals.peers(state),
        }
    }

    pub(super) fn metrics(&self, page: Page, format: Format) -> String {
        let mut known = self.known();
        let start = Instant::now();
        let facts = Facts { state: &known.state, totals: &known.totals, written_in: &known.written_in };
        let text = metrics::page(page, &facts, format);
        known.written_in.retain(|(written, _)| *written != page);
        known.written_in.push((page, start.elapsed()));
        text
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is in it stays whole even if a thread panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
