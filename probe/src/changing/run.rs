//! Carrying a plan out: one step, a look at the node, the next step; or everything back.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;

use super::{
    bare_packets::BarePackets,
    guard,
    journal::{self, Begun, Entry, Journal, Lock, Standing},
    kernel::Kernel,
    plan_file, refusals, steps, undo,
};
use crate::{
    causes::before_after::{self, Change, Meaning},
    model::Model,
    plan::{Action, Plan, Step},
    sample::Sample,
};

/// How often the node is looked at while a step settles.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long something must look worse before it is believed: BIRD replaces a route in two messages.
const STILL_WORSE: Duration = Duration::from_millis(200);
/// How often a stop is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A moment at which the process may end, and nothing be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    BeforeJournal(usize),
    BeforeChange(usize),
    AfterChange(usize),
    Done(usize),
    BeforePuttingBack(usize),
    PutBack(usize),
}

/// What a clean-up needs of whoever runs it.
pub trait Surroundings {
    /// This node as it is now.
    fn look(&mut self) -> impl Future<Output = anyhow::Result<Sample>>;

    /// Why it is to stop, such as a signal.
    fn stopped(&mut self) -> Option<String> {
        None
    }

    /// Says how far it is.
    fn progress(&mut self, _line: &str) {}

    fn at(&mut self, _boundary: Boundary) {}
}

pub struct Settings {
    /// Where the journal is.
    pub folder: PathBuf,
    /// How long the node is watched after each step.
    pub settle: Duration,
    pub include_irreversible: bool,
    /// The address from which the person is connected, which must stay reachable.
    pub caller: Option<Ipv4Addr>,
    pub confirmation: Option<Confirmation>,
    /// Takes away even what is needed; for tests of what happens then. No flag sets it.
    pub despite_refusals: bool,
}

/// Everything is put back unless a person confirms it in time.
pub struct Confirmation {
    pub within: Duration,
    /// The process that sees to it when this one is gone; it runs [`guard::serve`].
    pub guard: Command,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Applied {
    pub outcome: Outcome,
    /// In the order in which they were done.
    pub steps: Vec<StepResult>,
    pub journal: PathBuf,
    pub snapshot: PathBuf,
}

#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Done, and put back by itself without a confirmation.
    Awaiting(Duration),
    /// Everything is as before.
    PutBack(Why),
    /// Not everything could be put back: what is left.
    Left {
        why: Why,
        left: String,
    },
}

#[derive(Debug)]
pub enum Why {
    /// What got worse, and what that cost until it was back.
    Worse { changes: Vec<Change>, lost: Lost },
    /// A step could not be taken, or somebody ended it.
    Stopped(String),
}

/// Packets that were lost while a clean-up went on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// For which the kernel found no route; this node's in all.
    pub without_route: u64,
    /// For pods, and left bare by the default route; absent where that could not be counted.
    pub bare: Option<u64>,
}

#[derive(Debug)]
pub struct StepResult {
    pub step: Step,
    pub fate: Fate,
    /// How long its thing was away, where it is back.
    pub away: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    PutBack,
    CannotBePutBack(String),
    NotReached,
    /// It cannot be undone, and nobody asked for that.
    LeftOut,
}

/// What a plan would do now, in order; fails where it is refused.
pub async fn prepare(
    plan: &Plan,
    settings: &Settings,
    surroundings: &mut impl Surroundings,
) -> anyhow::Result<Prepared> {
    let before = surroundings.look().await.context("cannot read this node")?;
    let model = Model::new(&before);
    plan_file::ensure_fits(plan, &model, Timestamp::now())?;
    let refused = refusals::of_steps(&model, plan, settings.caller);
    let why = refused.iter().flatten().cloned().collect::<Vec<_>>();
    ensure!(
        why.is_empty() || settings.despite_refusals,
        "the plan takes away what is needed: {}",
        why.join("; ")
    );
    let meant = plan.steps.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
    let meant = meant.flat_map(|(step, _)| names(&step.action)).collect();
    let is_wanted = |step: &&Step| step.is_reversible() || settings.include_irreversible;
    let (mut steps, left_out): (Vec<&Step>, Vec<&Step>) = plan.steps.iter().partition(is_wanted);
    // What cannot be put back waits until everything else has proved right.
    steps.sort_by_key(|step| !step.is_reversible());
    let kernel = Kernel::open()?;
    for step in &steps {
        steps::ensure_as_planned(&kernel, &step.action)?;
    }
    ensure!(!steps.is_empty(), "{}", nothing_to_do(&left_out));
    let cloned = |steps: Vec<&Step>| steps.into_iter().cloned().collect();
    let (steps, left_out) = (cloned(steps), cloned(left_out));
    Ok(Prepared { before, steps, left_out, meant })
}

fn nothing_to_do(left_out: &[&Step]) -> &'static str {
    if left_out.is_empty() {
        "the plan has no steps: there is nothing to do"
    } else {
        "every step of the plan is one that cannot be undone: --include-irreversible takes them"
    }
}

/// A plan that fits this node.
pub struct Prepared {
    /// The node before it.
    before: Sample,
    /// In the order in which they are done.
    pub steps: Vec<Step>,
    pub left_out: Vec<Step>,
    /// What the steps take away, by the names that changes have for it.
    meant: Vec<String>,
}

/// The names by which a change may speak of what a step takes away.
fn names(action: &Action) -> Vec<String> {
    match action {
        Action::DeleteRoute { route, .. } => {
            let destination = route.destination;
            let address = (destination.prefix_len() == 32).then(|| destination.addr().to_string());
            address.into_iter().chain([destination.to_string()]).collect()
        }
        Action::SetLinkDown { link } | Action::DeleteLink { link, .. } => vec![link.name.clone()],
    }
}

/// Carries a prepared plan out. An error means that nothing was changed.
pub async fn apply(
    plan: &Plan,
    prepared: Prepared,
    settings: Settings,
    surroundings: &mut impl Surroundings,
) -> anyhow::Result<Applied> {
    let folder = settings.folder.as_path();
    let _lock = Lock::take(folder)?;
    let kernel = Kernel::open()?;
    let previous = previous_snapshot(folder, &prepared.before)?;
    let snapshot = save(folder, &prepared.before)?;
    let begun = Begun {
        format_version: journal::FORMAT_VERSION,
        time: Timestamp::now().to_string(),
        node: plan.node.clone(),
        boot_id: plan.boot_id.clone(),
        network_namespace: plan.network_namespace,
        snapshot: snapshot.display().to_string(),
        steps: prepared.steps.len(),
        confirm_within: settings
            .confirmation
            .as_ref()
            .map(|confirmation| u64::try_from(confirmation.within.as_millis()).unwrap_or(u64::MAX)),
    };
    let journal = Journal::begin(folder, begun).inspect_err(|_| drop(fs::remove_file(&snapshot)))?;
    if let Some(previous) = previous.filter(|previous| *previous != snapshot) {
        let _ = fs::remove_file(previous);
    }
    let within = settings.confirmation.as_ref().map(|confirmation| confirmation.within);
    let mut run = Run {
        kernel,
        journal,
        settle: settings.settle,
        prepared: &prepared,
        surroundings,
        taken: Vec::new(),
        bare: BarePackets::count(&Model::new(&prepared.before)).ok(),
    };
    let started = settings.confirmation.map_or(Ok(()), |confirmation| guard::start(confirmation.guard));
    let result = match started {
        Ok(()) => run.all().await,
        Err(error) => Err(Why::Stopped(format!("{error:#}"))),
    };
    let outcome = match result {
        Ok(()) => within.map_or(Outcome::Done, Outcome::Awaiting),
        Err(why) => run.put_back(why).await?,
    };
    let Run { journal, taken, .. } = run;
    let steps = results(&prepared, &journal, &taken, &outcome);
    Ok(Applied { outcome, steps, journal: journal.path().to_owned(), snapshot })
}

/// Whether the kernel says that there is no such thing: `ESRCH` of a route, `ENODEV` of a device.
fn is_gone(error: &anyhow::Error) -> bool {
    let of = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    of.into_iter().any(|code| code == libc::ESRCH || code == libc::ENODEV)
}

/// The snapshot of the clean-up before, which is over. Fails where it is not.
fn previous_snapshot(folder: &Path, now: &Sample) -> anyhow::Result<Option<PathBuf>> {
    let Some(journal) = Journal::open(folder)? else { return Ok(None) };
    let time = &journal.begun.time;
    if journal.is_of(&now.node) {
        match journal.standing {
            Standing::Unfinished => {
                bail!("the clean-up of {time} did not end: `caliprobe cleanup undo` puts back what it did")
            }
            Standing::Awaiting => bail!(
                "the clean-up of {time} is to be confirmed (`caliprobe cleanup confirm`) or undone (`caliprobe cleanup undo`) first"
            ),
            Standing::Applied | Standing::Confirmed | Standing::Undone => {}
        }
    }
    // The name was written by this program; a file elsewhere is none of its own.
    let snapshot = Path::new(&journal.begun.snapshot).file_name().map(|name| folder.join(name));
    Ok(snapshot.filter(|path| path.extension().is_some_and(|extension| extension == "json")))
}

/// The node's state of before, on the disk as a whole.
fn save(folder: &Path, sample: &Sample) -> anyhow::Result<PathBuf> {
    let time: String = sample.time.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = folder.join(format!("before-{time}.json"));
    let bytes = serde_json::to_vec(sample)?;
    let write = || -> anyhow::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(journal::sync_folder(folder)?)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&path)))
        .with_context(|| format!("no room for the snapshot of before: cannot write {}", path.display()))?;
    Ok(path)
}

/// A clean-up in the midst of it.
struct Run<'r, S> {
    kernel: Kernel,
    journal: Journal,
    settle: Duration,
    prepared: &'r Prepared,
    surroundings: &'r mut S,
    /// When each step was taken.
    taken: Vec<(Instant, Option<Instant>)>,
    /// Absent where it could not be counted.
    bare: Option<BarePackets>,
}

impl<S: Surroundings> Run<'_, S> {
    async fn all(&mut self) -> Result<(), Why> {
        let count = self.prepared.steps.len();
        for (number, step) in self.prepared.steps.iter().enumerate() {
            self.stop_where_asked()?;
            self.take(number, step).map_err(|error| Why::Stopped(format!("{error:#}")))?;
            self.surroundings.progress(&format!("{} of {count}  {}", number + 1, step.command));
            self.watch().await?;
        }
        self.stop_where_asked()?;
        let applied = Entry::Applied { time: Timestamp::now().to_string() };
        self.journal.write(applied).map_err(|error| Why::Stopped(format!("{error:#}")))
    }

    fn stop_where_asked(&mut self) -> Result<(), Why> {
        self.surroundings.stopped().map_or(Ok(()), |why| Err(Why::Stopped(why)))
    }

    fn take(&mut self, number: usize, step: &Step) -> anyhow::Result<()> {
        let before = steps::look(&self.kernel, &step.action)?;
        self.surroundings.at(Boundary::BeforeJournal(number));
        let doing = Entry::Doing { step: number, words: step.command.clone(), before: before.clone() };
        self.journal.write(doing)?;
        self.surroundings.at(Boundary::BeforeChange(number));
        self.taken.push((Instant::now(), None));
        if let Err(error) = steps::carry_out(&self.kernel, &step.action, &before) {
            if is_gone(&error) {
                // Somebody else took it away since it was looked at: it is not ours to put back.
                self.taken.pop();
                self.journal.write(Entry::PutBack { step: number, problem: None })?;
            }
            return Err(error);
        }
        self.surroundings.at(Boundary::AfterChange(number));
        self.journal.write(Entry::Done { step: number })?;
        self.surroundings.at(Boundary::Done(number));
        Ok(())
    }

    /// Watches the node while a step settles; at least one look.
    async fn watch(&mut self) -> Result<(), Why> {
        let end = Instant::now() + self.settle;
        loop {
            let changes = self.worse().await?;
            if !changes.is_empty() {
                tokio::time::sleep(STILL_WORSE).await;
                let still = self.worse().await?;
                if !still.is_empty() {
                    return Err(Why::Worse { changes: still, lost: Lost::default() });
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.wait(left.min(LOOK_EVERY)).await?;
        }
    }

    async fn wait(&mut self, duration: Duration) -> Result<(), Why> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.stop_where_asked()?;
            tokio::time::sleep(ASK_EVERY.min(duration)).await;
        }
        Ok(())
    }

    /// What is worse than before and not meant.
    async fn worse(&mut self) -> Result<Vec<Change>, Why> {
        let after = self.surroundings.look().await;
        let after = after.map_err(|error| Why::Stopped(format!("cannot read this node: {error:#}")))?;
        let changes = before_after::judge(&Model::new(&self.prepared.before), &Model::new(&after), None);
        let is_meant = |change: &Change| self.prepared.meant.contains(&change.subject.value);
        Ok(changes
            .into_iter()
            .filter(|change| change.meaning == Meaning::Regression && !is_meant(change))
            .collect())
    }

    async fn put_back(&mut self, why: Why) -> anyhow::Result<Outcome> {
        let words = match &why {
            Why::Worse { changes, .. } => {
                changes.first().map_or_else(String::new, |change| change.summary.clone())
            }
            Why::Stopped(why) => why.clone(),
        };
        let surroundings = &mut *self.surroundings;
        let put_back = undo::put_back(&mut self.journal, &self.kernel, &words, &mut |boundary| {
            surroundings.at(boundary);
        })?;
        let now = Instant::now();
        self.taken.iter_mut().for_each(|(_, back)| *back = Some(now));
        let why = match why {
            Why::Worse { changes, .. } => Why::Worse { changes, lost: self.lost().await },
            stopped @ Why::Stopped(_) => stopped,
        };
        Ok(match put_back.left {
            None => Outcome::PutBack(why),
            Some(left) => Outcome::Left { why, left },
        })
    }

    /// Since the clean-up began.
    async fn lost(&mut self) -> Lost {
        let sum = |sample: &Sample| -> u64 {
            let counters = ["Ip.OutNoRoutes", "IpExt.InNoRoutes"];
            counters.iter().filter_map(|name| sample.counters.get(*name)).sum()
        };
        let now = self.surroundings.look().await.map_or(0, |now| sum(&now));
        Lost {
            without_route: now.saturating_sub(sum(&self.prepared.before)),
            bare: self.bare.as_mut().map(BarePackets::so_far),
        }
    }
}

fn results(
    prepared: &Prepared,
    journal: &Journal,
    taken: &[(Instant, Option<Instant>)],
    outcome: &Outcome,
) -> Vec<StepResult> {
    let left: Vec<usize> = journal.to_put_back().iter().map(|(step, ..)| *step).collect();
    let fate = |number: usize| match outcome {
        _ if number >= taken.len() => Fate::NotReached,
        Outcome::Done | Outcome::Awaiting(_) => Fate::Done,
        _ if left.contains(&number) => Fate::Done,
        _ => journal.problem(number).map_or(Fate::PutBack, Fate::CannotBePutBack),
    };
    let steps = prepared.steps.iter().enumerate().map(|(number, step)| {
        let fate = fate(number);
        let back = taken.get(number).filter(|_| fate == Fate::PutBack);
        let away = back.and_then(|(taken, back)| Some(back.as_ref()?.duration_since(*taken)));
        StepResult { step: step.clone(), fate, away }
    });
    let left_out = prepared.left_out.iter().map(|step| StepResult {
        step: step.clone(),
        fate: Fate::LeftOut,
        away: None,
    });
    steps.chain(left_out).collect()
}
