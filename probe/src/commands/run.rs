//! `caliprobe run`: counts the node's pod traffic until it is told to stop.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    cli::{Global, Output, RunArgs},
    exit::Exit,
    kernel::{
        attachments::{Attachments, Device, Means, Outcome, devices},
        janitor::{self, Janitor},
        ledger::Ledger,
    },
    model::{
        Model,
        layout::{self, Layout},
    },
    reading::Reading,
    report::ledger as report,
    sample::Sample,
    sources::{self, GatherOptions, changes::Changes, netlink::Netlink},
};

/// How long a burst of changes is awaited before the node is read again.
const BURST: Duration = Duration::from_millis(20);
/// How often everything is read again though nothing seemed to change; a random part is added.
const FULL_READ: Duration = Duration::from_secs(90);
/// The most of that part.
const JITTER: Duration = Duration::from_secs(10);

/// How soon the node is read again when it could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, and prints the ledger then.
pub async fn run(args: &RunArgs, global: &Global) -> anyhow::Result<Exit> {
    for filter in janitor::sweep(args.keep_clsact)? {
        tracing::warn!("removed what a killed caliprobe left: {}", report::filter_words(&filter));
    }
    let mut watch = Watch::start(args, global).await?;
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next_full_read = Instant::now() + full_read_pause();
    let mut ready = false;
    loop {
        if !ready && watch.pending.is_empty() {
            watch.say_ready(args)?;
            ready = true;
        }
        let attach_at = watch.next_attach;
        tokio::select! {
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
            () = sleep_until(attach_at), if !watch.pending.is_empty() => watch.attach_next()?,
            change = watch.changes.next() => {
                change?;
                watch.await_end_of_burst().await?;
                if let Err(error) = watch.read_network().await {
                    next_full_read = retry(&error);
                }
            }
            () = sleep_until(next_full_read) => {
                next_full_read = match watch.read_everything().await {
                    Ok(()) => Instant::now() + full_read_pause(),
                    Err(error) => retry(&error),
                };
            }
            _ = ticks.tick(), if global.output == Output::Json => {
                let reading = watch.reading()?;
                print_line(&reading)?;
            }
        }
    }
    let reading = watch.reading()?;
    watch.attachments.detach_all(args.keep_clsact);
    match global.output {
        Output::Json => print_line(&reading)?,
        Output::Text => write!(io::stdout().lock(), "{}", report::text(&reading))?,
    }
    Ok(Exit::Fine)
}

/// When to read the node again after it could not be read; what was attached goes on counting meanwhile.
fn retry(error: &anyhow::Error) -> Instant {
    tracing::warn!("{error:#}; it is read again soon");
    Instant::now() + RETRY
}

fn full_read_pause() -> Duration {
    FULL_READ + JITTER.mul_f64(rand::random())
}

fn print_line(reading: &Reading) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(reading)?)?;
    Ok(out.flush()?)
}

/// The ledger, its attachments, and what they follow.
struct Watch {
    options: GatherOptions,
    with_pods: bool,
    keep_clsact: bool,
    sample: Sample,
    netlink: Netlink,
    changes: Changes,
    layout: Layout,
    ledger: Ledger,
    attachments: Attachments,
    janitor: Option<Janitor>,
    /// Devices that wait for their programs.
    pending: Vec<Device>,
    next_attach: Instant,
    /// Devices that took no programs, and why.
    refused: BTreeMap<String, String>,
    /// When each device got its programs.
    covered_since: HashMap<u32, Timestamp>,
}

impl Watch {
    async fn start(args: &RunArgs, global: &Global) -> anyhow::Result<Self> {
        let options = global.sources();
        // Subscribed before the first read, so that no change falls between.
        let changes = Changes::subscribe()?;
        let sample = sources::gather(&options).await.context("cannot read this node's network state")?;
        let model = Model::new(&sample);
        if model.pools.is_empty() {
            bail!("no pod pool is known: no Felix set and no pod route tells one; name it with --pool CIDR");
        }
        let pods = sample.links.iter().filter(|link| crate::model::is_pod_link(link)).count();
        let stride = layout::stride(pods, model.remote_blocks().len(), model.peers().count());
        let mut ledger = Ledger::load(stride, sample.node.network_namespace)?;
        ledger.forward_messages()?;
        let mut watch = Self {
            options,
            with_pods: !args.no_pod_hooks,
            keep_clsact: args.keep_clsact,
            netlink: Netlink::open()?,
            changes,
            layout: Layout::new(stride),
            ledger,
            attachments: Attachments::new()?,
            janitor: None,
            pending: Vec::new(),
            next_attach: Instant::now(),
            refused: BTreeMap::new(),
            covered_since: HashMap::new(),
            sample,
        };
        watch.follow()?;
        Ok(watch)
    }

    async fn await_end_of_burst(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + 2 * BURST;
        while Instant::now() < end {
            match timeout(BURST, self.changes.next()).await {
                Ok(change) => change?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn read_network(&mut self) -> anyhow::Result<()> {
        let facts = self.netlink.read().await.context("cannot read this node's network state")?;
        self.sample.links = facts.links;
        self.sample.addresses = facts.addresses;
        self.sample.routes = facts.routes;
        self.sample.next_hops = facts.next_hops;
        self.sample.rules = facts.rules;
        self.sample.neighbours = facts.neighbours;
        self.follow()
    }

    async fn read_everything(&mut self) -> anyhow::Result<()> {
        self.sample =
            sources::gather(&self.options).await.context("cannot read this node's network state")?;
        self.follow()
    }

    /// Brings tables and attachments in line with the node as it is now. `tunl0`, the wires and, where that is
    /// cheap, the pods get their programs at once; others one after the other.
    fn follow(&mut self) -> anyhow::Result<()> {
        let model = Model::new(&self.sample);
        let reusable = self.layout.update(&model);
        self.ledger.write(&self.layout, &reusable)?;
        let wanted = devices(&model, self.with_pods);
        self.refused.retain(|name, _| wanted.iter().any(|device| device.name == *name));
        self.attachments.keep_only(&wanted, self.keep_clsact);
        self.covered_since.retain(|index, _| wanted.iter().any(|device| device.index == *index));
        self.pending = wanted.into_iter().filter(|device| !self.attachments.is_attached(device)).collect();
        self.pending.reverse();
        while self.pending.last().is_some_and(|device| !self.is_paced(device)) {
            self.attach_last()?;
        }
        Ok(())
    }

    /// Each attachment by TCX waits for a grace period with the lock that every change of the network needs.
    fn is_paced(&self, device: &Device) -> bool {
        device.role == crate::kernel::attachments::Role::Pod
            && self.attachments.means() != Some(Means::Clsact)
    }

    fn attach_next(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        self.attach_last()?;
        // Others have the lock for at least half of the time.
        self.next_attach = Instant::now() + start.elapsed();
        Ok(())
    }

    fn attach_last(&mut self) -> anyhow::Result<()> {
        let Some(device) = self.pending.pop() else { return Ok(()) };
        let Self { janitor, ledger, attachments, keep_clsact, .. } = self;
        let handle = attachments.handle();
        let outcome = attachments.attach(ledger, &device, &mut |makes_clsact| {
            let janitor = match janitor {
                Some(janitor) => janitor,
                None => janitor.insert(Janitor::start(handle, *keep_clsact)?),
            };
            if makes_clsact { janitor.announce_clsact(device.index) } else { Ok(()) }
        });
        match outcome {
            Ok(Outcome::Attached) => {
                self.covered_since.insert(device.index, Timestamp::now());
            }
            Ok(Outcome::Gone) => {}
            // Where nothing could be attached yet, nothing will be: privileges or the kernel forbid it.
            Err(error) if self.covered_since.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!("{error:#}");
                self.refused.insert(device.name, format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Everything that was counted so far.
    fn reading(&mut self) -> anyhow::Result<Reading> {
        let names: HashMap<u32, &str> =
            self.sample.links.iter().map(|link| (link.index, link.name.as_str())).collect();
        let mut reading =
            self.ledger.read(&self.layout, |index| names.get(&index).map(|name| (*name).to_owned()))?;
        reading.time = Timestamp::now().to_string();
        for link in &mut reading.links {
            link.covered_since = self.covered_since.get(&link.link).map(Timestamp::to_string);
        }
        if !self.with_pods {
            reading.limits.push("pod interfaces are not counted: --no-pod-hooks was given".to_owned());
        }
        reading
            .limits
            .extend(self.refused.iter().map(|(device, why)| format!("{device} is not counted: {why}")));
        reading.limits.extend(self.attachments.limits().map(str::to_owned));
        Ok(reading)
    }

    /// Tells that every device that is there now is covered.
    fn say_ready(&self, args: &RunArgs) -> anyhow::Result<()> {
        let means = self.attachments.means().map_or("nothing", Means::words);
        tracing::info!("counting at {} devices, attached by {means}", self.covered_since.len());
        if let Some(path) = &args.ready_file {
            fs::write(path, format!("{}\n", std::process::id()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
