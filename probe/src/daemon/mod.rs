//! The node's daemon: counts all the time, publishes what it knows at each interval, and serves it.

pub mod configuration;
mod counting;
mod explaining;
pub mod journal;
mod listening;
mod look;
mod memory;
mod publication;
mod service_manager;
mod sessions;
mod watching;

use std::{fs, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

pub use self::counting::Scope;
use self::{
    counting::Counting,
    explaining::{Answer, Explaining},
    journal::Journal,
    publication::Publication,
    service_manager::ServiceManager,
    sessions::Sessions,
    watching::Watching,
};
use crate::{
    causes::{node, opening::Change},
    model::Model,
    report::document::Finding,
    serving,
    state::{Event, State},
};

/// How often everything is read again though nothing seemed to change; a random part is added.
const FULL_READ: Duration = Duration::from_secs(90);
/// The most of that part.
const JITTER: Duration = Duration::from_secs(10);
/// How soon the node is read again when it could not be.
const RETRY: Duration = Duration::from_secs(1);

/// While packets are lost the node is read anew at each reading, but for at most one part of so many of the time.
const SAMPLE_SHARE: u32 = 9;

/// How the daemon runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub scope: Scope,
    /// How often the ledger is read.
    pub interval: Duration,
    /// Gets the process id once every device is covered.
    pub ready_file: Option<PathBuf>,
    pub serving: serving::Settings,
    /// The folder of the journal; without it no event is kept.
    pub events: Option<PathBuf>,
}

/// What takes effect at once when the configuration is read again.
#[derive(Clone, Debug)]
pub struct Adjustable {
    pub interval: Duration,
    /// Pools that win over what the node tells.
    pub pools: Vec<Ipv4Net>,
}

/// What the daemon needs of who started it.
pub trait Owner {
    /// Hears what is known at each interval.
    fn hear(&mut self, state: &State) -> anyhow::Result<()>;

    /// Reads the configuration again.
    fn reload(&mut self) -> anyhow::Result<Adjustable>;
}

/// Runs until `stop`, and returns what was known last.
pub async fn run(
    settings: &Settings,
    owner: &mut dyn Owner,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Arc<State>> {
    let mut stop = pin!(stop);
    let mut reload = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let counting = Counting::start(settings.scope.clone()).await?;
    let sessions = Sessions::watch(settings.scope.sources.clone(), counting.sample.node.network_namespace);
    let mut daemon = Daemon {
        watching: Watching::new(settings.scope.sources.clone()),
        explaining: Explaining::new(settings.scope.sources.clone()),
        journal: settings.events.as_ref().map(|folder| Journal::open(folder, Timestamp::now())),
        counting,
        publication: Publication::new(sessions),
        next_full_read: Instant::now() + full_read_pause(),
        failed_reads: 0,
        next_sample: Instant::now(),
    };
    let (published, receiver) = watch::channel(Arc::new(daemon.state().await?));
    let events = settings.events.clone();
    let journal = events.map(|folder| Arc::new(journal::Folder(folder)) as Arc<dyn serving::Journal>);
    let served = serving::Settings { journal, ..settings.serving.clone() };
    let _serving = serving::start(&served, receiver)?;
    let mut ticks = every(settings.interval);
    let manager = ServiceManager::of_environment();
    let mut ready = false;
    loop {
        if !ready && daemon.counting.is_complete() {
            ready = true;
            daemon.say_ready(settings)?;
            manager.ready();
        }
        let attach_at = daemon.counting.next_attach;
        tokio::select! {
            () = &mut stop => break,
            () = sleep_until(attach_at), if !daemon.counting.is_complete() => daemon.counting.attach_next()?,
            change = daemon.counting.changes.next() => {
                let outcome = daemon.counting.follow_change(change?).await;
                if outcome.is_err() {
                    daemon.next_full_read = Instant::now() + RETRY;
                }
                daemon.note(outcome);
            }
            () = sleep_until(daemon.next_full_read) => {
                let outcome = daemon.counting.read_everything().await;
                daemon.next_full_read =
                    Instant::now() + if outcome.is_ok() { full_read_pause() } else { RETRY };
                daemon.note(outcome);
            }
            () = daemon.watching.look() => {}
            answer = daemon.explaining.answer() => daemon.explain(&answer),
            _ = reload.recv() => match owner.reload() {
                Ok(Adjustable { interval, pools }) => {
                    ticks = every(interval);
                    daemon.counting.set_pools(pools);
                    daemon.next_full_read = Instant::now();
                    tracing::info!("the configuration was read again");
                }
                Err(error) => tracing::warn!("the configuration stays as it was: {error:#}"),
            },
            _ = ticks.tick() => {
                let state = Arc::new(daemon.state().await?);
                owner.hear(&state)?;
                manager.alive(&status(&state));
                published.send_replace(state);
            }
        }
    }
    manager.stopping();
    let last = Arc::new(daemon.state().await?);
    daemon.counting.end();
    Ok(last)
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// What `systemctl status` shows.
fn status(state: &State) -> String {
    format!("{} devices covered, {} black holes open", state.health.covered, state.black_holes.len())
}

fn full_read_pause() -> Duration {
    FULL_READ + JITTER.mul_f64(rand::random())
}

struct Daemon {
    counting: Counting,
    watching: Watching,
    explaining: Explaining,
    journal: Option<Journal>,
    publication: Publication,
    next_full_read: Instant,
    failed_reads: u64,
    /// When the node may be read anew for what was lost.
    next_sample: Instant,
}

impl Daemon {
    /// What is attached goes on counting while the node cannot be read.
    fn note(&mut self, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            self.failed_reads += 1;
            tracing::warn!("{error:#}; it is read again soon");
        }
    }

    /// Reads the ledger, and judges what was lost.
    async fn state(&mut self) -> anyhow::Result<State> {
        let start = std::time::Instant::now();
        let reading = self.counting.reading()?;
        let read_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.watching.hear_pods(&reading);
        let losses = self.watching.losses(&reading);
        if self.watching.needs_sample(&losses) && Instant::now() >= self.next_sample {
            let start = Instant::now();
            let outcome = self.counting.read_everything().await;
            self.note(outcome);
            self.next_sample = Instant::now() + SAMPLE_SHARE * start.elapsed();
        }
        let sessions = self.publication.sessions();
        let changes = self.watching.advance(&reading, &losses, &self.counting.sample, &sessions);
        self.explaining.ask_for(&changes, &self.counting.sample);
        self.enter(changes);
        let mut health = self.counting.health(&reading);
        health.failed_reads = self.failed_reads;
        health.lost_events = self.journal.as_ref().map_or(0, Journal::without_room);
        health.read_us = read_us;
        Ok(self.publication.state(&self.counting, reading, self.watching.open(), health))
    }

    fn explain(&mut self, answer: &Answer) {
        let model = Model::new(&answer.sample);
        let reasons = node::reasons(&model);
        let explain = |finding: &mut Finding| node::explain(&model, finding, &reasons);
        let changes = self.watching.explain(&answer.black_holes, &explain);
        self.enter(changes);
    }

    /// Keeps these events, and writes those that waited for room on the disk.
    fn enter(&mut self, changes: Vec<Change>) {
        let Some(journal) = &mut self.journal else { return };
        for Change { kind, black_hole } in changes {
            journal.enter(Event { time: Timestamp::now().to_string(), kind, black_hole });
        }
        journal.write();
    }

    fn say_ready(&self, settings: &Settings) -> anyhow::Result<()> {
        tracing::info!("{}", self.counting.coverage());
        if let Some(path) = &settings.ready_file {
            fs::write(path, format!("{}\n", std::process::id()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Comes with the first SIGTERM or SIGINT from now on.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}
