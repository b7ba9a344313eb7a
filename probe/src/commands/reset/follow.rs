//! `caliprobe reset follow`: each route and session as it goes and as it returns, until all is back.

mod sessions;
mod table;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{sessions::Sessions, table::Table};
use crate::{
    causes::reset::returning::{Event, Moment, Returning, Thing},
    cli::{Global, Output, ResetFollowArgs},
    commands::{check, snapshot, standard_output},
    daemon::stop_signal,
    exit::Exit,
    model::Model,
    report::reset_follow::{self, FollowDocument, Outcome, Stopped},
    sample::{Bird, Fact, Sample},
    sources::{cni, route_changes::Notices},
};

/// What is back must stay for so long: BIRD looks at the kernel's routes every 2 s, and takes away what it does not
/// want once it has recovered from a restart.
const SETTLED: Duration = Duration::from_secs(3);
/// How often it is looked at whether it can end.
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn run(args: &ResetFollowArgs, global: &Global) -> anyhow::Result<Exit> {
    let stop = stop_signal()?;
    tokio::pin!(stop);
    // Before anything is read, so that nothing is missed in between.
    let mut notices = Notices::subscribe()?;
    let now = check::look(global).await?;
    let before = args.before.as_deref().map(|path| snapshot::one(path, global)).transpose()?;
    let mut following = Following::begin(&now, before.as_ref(), global).await?;
    following.print_start()?;
    following.compare(&now, before.as_ref())?;
    let mut sessions = Sessions::ask(global.sources(), now.node.network_namespace, following.start);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stopped = loop {
        tokio::select! {
            notice = notices.next() => {
                let events = following.table.take(notice?, &mut following.returning).await?;
                following.tell(events)?;
            }
            answer = sessions.next() => {
                let events = answer?.compare(&mut following.returning);
                following.tell(events)?;
                following.bird = sessions.bird.clone();
            }
            _ = looks.tick() => {
                following.look().await?;
                if following.is_settled() && following.is_confirmed().await? {
                    break Stopped::AllBack;
                }
                if args.timeout.is_some_and(|limit| following.start.elapsed() >= limit) {
                    break Stopped::Timeout;
                }
            }
            () = &mut stop => break Stopped::Interrupted,
        }
    };
    following.look().await?;
    following.is_confirmed().await?;
    following.end(before.as_ref().unwrap_or(&now), &now, stopped)
}

/// What is known of the reset so far.
struct Following<'a> {
    global: &'a Global,
    start: Instant,
    start_time: Timestamp,
    node: String,
    returning: Returning,
    table: Table,
    bird: Fact<Bird>,
    /// Since when nothing is missing.
    complete_since: Option<Instant>,
}

impl<'a> Following<'a> {
    async fn begin(now: &Sample, before: Option<&Sample>, global: &'a Global) -> anyhow::Result<Self> {
        let model = Model::new(now);
        check::ensure_calico(&model)?;
        let expected = before.map(Model::new);
        if let Some(expected) = &expected {
            anyhow::ensure!(
                expected.node_name() == model.node_name()
                    || before.map(|before| &before.node.boot_id) == Some(&now.node.boot_id),
                "the snapshot is of node {}, and this is {}: a reset is followed on its own node",
                expected.node_name(),
                model.node_name()
            );
        }
        let expected = expected.as_ref().unwrap_or(&model);
        let pools = model.pools.iter().chain(&expected.pools).map(|pool| pool.cidr).collect();
        let start = Instant::now();
        let was = table::mirror_of(expected.sample);
        Ok(Self {
            global,
            start,
            start_time: Timestamp::now(),
            node: model.node_name(),
            returning: Returning::of(expected, |thing| was.passage(thing)),
            table: Table::read(start, pools).await?,
            bird: now.bird.clone(),
            complete_since: None,
        })
    }

    /// What has gone, come or changed before anybody followed.
    fn compare(&mut self, now: &Sample, before: Option<&Sample>) -> anyhow::Result<()> {
        let at = if before.is_some() { Moment::at_the_start() } else { Moment::exact(self.start.elapsed()) };
        let mut events = self.table.compare_all(at, &mut self.returning);
        if let Some(before) = before {
            events.extend(sessions::since(before, now, &mut self.returning));
        }
        self.tell(events)
    }

    /// Pods that ended are not awaited; whether something is missing is remembered.
    async fn look(&mut self) -> anyhow::Result<()> {
        let events = self.table.settle(&mut self.returning).await?;
        self.tell(events)?;
        let gone: Vec<Thing> = self
            .returning
            .missing()
            .filter_map(|(thing, record)| {
                let Thing::Pod(_) = thing else { return None };
                let interface = record.before.by.trim_start_matches("dev ");
                (!self.table.mirror.has_link(interface)).then(|| thing.clone())
            })
            .collect();
        if !gone.is_empty() {
            let named = cni::read(&self.global.root).unwrap_or_default();
            let is_named = |thing: &&Thing| match thing {
                Thing::Pod(address) => named.iter().any(|result| result.addresses.contains(address)),
                _ => true,
            };
            let at = self.start.elapsed();
            let ended: Vec<&Thing> = gone.iter().filter(|thing| !is_named(thing)).collect();
            let events = ended.into_iter().filter_map(|thing| self.returning.end(at, thing)).collect();
            self.tell(events)?;
        }
        let is_recovering = self.bird.known().is_some_and(|bird| bird.recovering);
        if !self.returning.has_gone() || is_recovering || self.returning.missing().next().is_some() {
            self.complete_since = None;
        } else {
            self.complete_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.complete_since.is_some_and(|since| since.elapsed() >= SETTLED)
    }

    /// The kernel's own word at the end, whatever notifications said.
    async fn is_confirmed(&mut self) -> anyhow::Result<bool> {
        let events = self.table.read_anew(&mut self.returning).await?;
        self.tell(events)?;
        Ok(self.returning.missing().next().is_none())
    }

    fn print_start(&self) -> anyhow::Result<()> {
        let mut out = standard_output::lock();
        match self.global.output {
            Output::Json => {
                writeln!(out, "{}", reset_follow::start_document(&self.start_time, &self.returning))?;
            }
            Output::Text if self.global.quiet => {}
            Output::Text => writeln!(out, "{}", reset_follow::start_line(&self.node, &self.returning))?,
        }
        Ok(out.flush()?)
    }

    fn tell(&self, events: Vec<Event>) -> anyhow::Result<()> {
        let mut out = standard_output::lock();
        for event in events {
            let time = self.start_time + event.at;
            match self.global.output {
                Output::Json => writeln!(out, "{}", reset_follow::event_document(time, &event))?,
                Output::Text if self.global.quiet => {}
                Output::Text => writeln!(out, "{}", reset_follow::event_line(time, &event))?,
            }
        }
        Ok(out.flush()?)
    }

    fn end(self, expected: &Sample, now: &Sample, stopped: Stopped) -> anyhow::Result<Exit> {
        let outcome = Outcome {
            stopped,
            start: self.start_time,
            followed: self.start.elapsed(),
            returning: &self.returning,
            lost: self.table.lost,
            bird: &self.bird,
        };
        let document = FollowDocument::new(&Model::new(expected), &Model::new(now), &outcome);
        let mut out = standard_output::lock();
        match self.global.output {
            Output::Json => writeln!(out, "{}", serde_json::to_string(&document)?)?,
            Output::Text if self.global.quiet => writeln!(out, "{}", document.quiet())?,
            Output::Text => write!(out, "{}", document.text())?,
        }
        let is_missing = self.returning.missing().next().is_some();
        Ok(match stopped {
            _ if !is_missing => Exit::Fine,
            Stopped::Interrupted => Exit::CannotSay,
            Stopped::Timeout | Stopped::AllBack => Exit::Proven,
        })
    }
}
