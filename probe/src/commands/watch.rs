//! `caliprobe watch`: the node's pod traffic, live.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::{Global, Output, WatchArgs},
    daemon::{self, Adjustable, Owner, Scope, Settings},
    exit::Exit,
    kernel::janitor,
    sample::Fact,
    screen::{self, News, Source},
    serving, sources,
    state::State,
};

/// Readings that wait for being drawn. What finds no room is left out: the next one tells more.
const WAITING: usize = 2;

/// Shows a running daemon, or counts by programs of its own where none runs.
pub async fn run(args: &WatchArgs, global: &Global) -> anyhow::Result<Exit> {
    if global.output == Output::Json {
        bail!("`watch` is a screen; `caliprobe run -o json` prints each reading as a line");
    }
    screen::require()?;
    let socket = global.api_socket().to_owned();
    // Who names a socket means that daemon, also before it runs.
    let daemon_runs =
        global.api_socket.is_some() || matches!(sources::daemon::state(&socket).await, Fact::Known(_));
    if daemon_runs {
        watch_daemon(args, socket).await?;
    } else {
        watch_own(args, global).await?;
    }
    Ok(Exit::Fine)
}

async fn watch_daemon(args: &WatchArgs, socket: PathBuf) -> anyhow::Result<()> {
    let (sender, news) = mpsc::channel(WAITING);
    let asking = ask(args.interval, socket.clone(), sender);
    tokio::select! {
        shown = screen::show(Source::Daemon(socket), news) => shown,
        () = asking => Ok(()),
    }
}

/// Asks the daemon again and again, until nobody listens.
async fn ask(period: Duration, socket: PathBuf, sender: mpsc::Sender<News>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let news = match sources::daemon::state(&socket).await {
            Fact::Known(state) => News::Reading(Arc::new(state)),
            Fact::Absent(why) => News::Missing(why),
        };
        if sender.send(news).await.is_err() {
            return;
        }
    }
}

/// The daemon's own loop in this process, without what it tells others: no listener, and no event on disk.
async fn watch_own(args: &WatchArgs, global: &Global) -> anyhow::Result<()> {
    let scope = Scope { sources: global.sources(), with_pods: true, keep_clsact: false };
    let settings = Settings {
        scope,
        interval: args.interval,
        ready_file: None,
        serving: serving::Settings::default(),
        events: None,
    };
    janitor::sweep(settings.scope.keep_clsact)?;
    let (sender, news) = mpsc::channel(WAITING);
    let (leave, left) = oneshot::channel::<()>();
    let mut owner = Watcher { settings: &settings, sender };
    let mut counting = pin!(daemon::run(&settings, &mut owner, async {
        let _ = left.await;
    }));
    tokio::select! {
        counted = &mut counting => match counted {
            Ok(_) => Ok(()),
            Err(error) => Err(super::run::explained(error, global).await),
        },
        shown = screen::show(Source::Own, news) => {
            let _ = leave.send(());
            counting.await?;
            shown
        }
    }
}

struct Watcher<'a> {
    settings: &'a Settings,
    sender: mpsc::Sender<News>,
}

impl Owner for Watcher<'_> {
    fn hear(&mut self, state: &State) -> anyhow::Result<()> {
        let _ = self.sender.try_send(News::Reading(Arc::new(state.clone())));
        Ok(())
    }

    /// There is no configuration to read; the signal ends the screen.
    fn reload(&mut self) -> anyhow::Result<Adjustable> {
        Ok(Adjustable { interval: self.settings.interval, pools: self.settings.scope.sources.pools.clone() })
    }
}
