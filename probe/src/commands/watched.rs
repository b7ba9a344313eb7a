//! What is counted of this node's traffic while a snapshot is made: by the daemon that runs, or by its own loop in this
//! process where none does.

use std::{mem, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{
    sync::oneshot,
    time::{Instant, interval_at},
};

use super::run::explained;
use crate::{
    cli::Global,
    daemon::{self, Adjustable, Owner, Scope, Settings},
    kernel::janitor,
    reading::Reading,
    sample::{Fact, Ledger},
    serving, sources,
    state::State,
};

/// A window has about so many parts, from which it shows how losses vary.
const PARTS: u32 = 10;
/// The daemon reads its ledger no oftener than this, mostly.
const SHORTEST_PART: Duration = Duration::from_secs(1);

/// The ledger as it is at once, from the daemon; or what is counted within a window, from whoever can.
pub async fn ledger(window: Option<Duration>, global: &Global) -> anyhow::Result<Fact<Ledger>> {
    let socket = global.api_socket();
    let now = sources::daemon::state(socket).await;
    let Some(window) = window else {
        return Ok(match now {
            Fact::Known(state) => Fact::Known(of_states(vec![state])),
            Fact::Absent(why) => Fact::Absent(why),
        });
    };
    let part = (window / PARTS).max(SHORTEST_PART);
    let parts = usize::try_from(window.as_millis().div_ceil(part.as_millis()))?;
    let states = match now {
        Fact::Known(first) => asked(first, part, parts, global).await?,
        Fact::Absent(_) => counted(part, parts, global).await?,
    };
    Ok(Fact::Known(of_states(states)))
}

/// Only the last keeps its blocks: how many packets each of ten thousand had at each moment is asked by nobody.
fn of_states(states: Vec<State>) -> Ledger {
    let black_holes = states.last().map(|state| state.black_holes.clone()).unwrap_or_default();
    let mut readings: Vec<Reading> = states.into_iter().map(|state| state.reading).collect();
    // A daemon may read its ledger less often than it is asked.
    readings.dedup_by(|one, other| one.time == other.time);
    if let Some((_, earlier)) = readings.split_last_mut() {
        for reading in earlier {
            reading.blocks.clear();
        }
    }
    Ledger { readings, black_holes }
}

async fn asked(first: State, part: Duration, parts: usize, global: &Global) -> anyhow::Result<Vec<State>> {
    let mut states = vec![first];
    let mut ticks = interval_at(Instant::now() + part, part);
    for _ in 0..parts {
        ticks.tick().await;
        match sources::daemon::state(global.api_socket()).await {
            Fact::Known(state) => states.push(state),
            Fact::Absent(why) => return Err(anyhow!("cannot count for --window: {why}")),
        }
    }
    Ok(states)
}

/// Counts by programs of its own, which end with it.
async fn counted(part: Duration, parts: usize, global: &Global) -> anyhow::Result<Vec<State>> {
    let settings = Settings {
        scope: Scope { sources: global.sources(), with_pods: true, keep_clsact: false },
        interval: part,
        ready_file: None,
        serving: serving::Settings::default(),
        events: None,
    };
    janitor::sweep(settings.scope.keep_clsact)?;
    let (enough, ended) = oneshot::channel();
    let mut counter =
        Counter { settings: &settings, wanted: parts + 1, states: Vec::new(), enough: Some(enough) };
    let run = daemon::run(&settings, &mut counter, async {
        let _ = ended.await;
    });
    if let Err(error) = run.await {
        return Err(explained(error, global).await).context("cannot count for --window");
    }
    Ok(mem::take(&mut counter.states))
}

/// Keeps what it hears once every device is covered.
struct Counter<'a> {
    settings: &'a Settings,
    wanted: usize,
    states: Vec<State>,
    enough: Option<oneshot::Sender<()>>,
}

impl Owner for Counter<'_> {
    fn hear(&mut self, state: &State) -> anyhow::Result<()> {
        let is_complete = state.health.pending == 0;
        if self.states.len() < self.wanted && (is_complete || !self.states.is_empty()) {
            self.states.push(state.clone());
        }
        if self.states.len() == self.wanted
            && let Some(enough) = self.enough.take()
        {
            let _ = enough.send(());
        }
        Ok(())
    }

    /// There is no configuration to read.
    fn reload(&mut self) -> anyhow::Result<Adjustable> {
        Ok(Adjustable { interval: self.settings.interval, pools: self.settings.scope.sources.pools.clone() })
    }
}
