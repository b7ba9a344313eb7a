//! What is counted: the ledger, its attachments, and the changes of the node that they follow.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use probe_common::ledger::{DROP_ENTRIES, LINK_ENTRIES};
use tokio::time::{Instant, timeout};

use super::memory;
use crate::{
    kernel::{
        attachments::{Attachments, Device, Means, Outcome, devices},
        janitor::Janitor,
        ledger::Ledger,
    },
    model::{
        Model,
        layout::{self, Layout},
    },
    reading::Reading,
    sample::Sample,
    sources::{
        self, GatherOptions,
        changes::{Change, Changes},
        netlink::Netlink,
    },
    state::{Health, TableUse},
};

/// How long a burst of changes is awaited before the node is read again.
const BURST: Duration = Duration::from_millis(10);

/// What is counted, and where.
#[derive(Clone, Debug)]
pub struct Scope {
    pub sources: GatherOptions,
    /// Whether pod interfaces get programs.
    pub with_pods: bool,
    /// Whether clsact queueing disciplines of ours stay behind.
    pub keep_clsact: bool,
}

/// The ledger, its attachments, and what they follow.
pub(super) struct Counting {
    scope: Scope,
    pub(super) sample: Sample,
    netlink: Netlink,
    pub(super) changes: Changes,
    layout: Layout,
    ledger: Ledger,
    attachments: Attachments,
    janitor: Option<Janitor>,
    /// Devices that wait for their programs.
    pending: Vec<Device>,
    pub(super) next_attach: Instant,
    /// Devices that took no programs, and why.
    refused: BTreeMap<String, String>,
    /// When each device got its programs.
    covered_since: HashMap<u32, Timestamp>,
    overruns: u64,
    /// How often the sample changed.
    pub(super) generation: u64,
}

impl Counting {
    pub(super) async fn start(scope: Scope) -> anyhow::Result<Self> {
        // Subscribed before the first read, so that no change falls between.
        let changes = Changes::subscribe()?;
        let sample =
            sources::gather(&scope.sources).await.context("cannot read this node's network state")?;
        let model = Model::new(&sample);
        if model.pools.is_empty() {
            bail!("no pod pool is known: no Felix set and no pod route tells one; name it with --pool CIDR");
        }
        let pods = sample.links.iter().filter(|link| crate::model::is_pod_link(link)).count();
        let stride = layout::stride(pods, model.remote_blocks().len(), model.peers().count());
        let mut ledger = Ledger::load(stride, sample.node.network_namespace)?;
        ledger.forward_messages()?;
        for limit in ledger.limits() {
            tracing::warn!("{limit}");
        }
        let mut counting = Self {
            scope,
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
            overruns: 0,
            generation: 0,
            sample,
        };
        counting.follow()?;
        memory::give_back();
        Ok(counting)
    }

    /// Brings everything in line after a change, and those that come in a burst with it. Where the kernel lost
    /// notifications, all is read again.
    pub(super) async fn follow_change(&mut self, first: Change) -> anyhow::Result<()> {
        let mut lost = first == Change::Lost;
        let end = Instant::now() + 2 * BURST;
        while Instant::now() < end {
            match timeout(BURST, self.changes.next()).await {
                Ok(change) => lost |= change? == Change::Lost,
                Err(_) => break,
            }
        }
        if lost {
            self.overruns += 1;
            return self.read_everything().await;
        }
        self.read_network().await
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

    pub(super) async fn read_everything(&mut self) -> anyhow::Result<()> {
        self.sample =
            sources::gather(&self.scope.sources).await.context("cannot read this node's network state")?;
        self.follow()?;
        memory::give_back();
        Ok(())
    }

    /// Brings tables and attachments in line with the node as it is now. `tunl0`, the wires and, where that is
    /// cheap, the pods get their programs at once; others one after the other.
    fn follow(&mut self) -> anyhow::Result<()> {
        self.generation += 1;
        let model = Model::new(&self.sample);
        let reusable = self.layout.update(&model);
        self.ledger.write(&self.layout, &reusable)?;
        let wanted = devices(&model, self.scope.with_pods);
        self.refused.retain(|name, _| wanted.iter().any(|device| device.name == *name));
        self.attachments.keep_only(&wanted, self.scope.keep_clsact);
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

    pub(super) fn attach_next(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        self.attach_last()?;
        // Others have the lock for at least half of the time.
        self.next_attach = Instant::now() + start.elapsed();
        Ok(())
    }

    fn attach_last(&mut self) -> anyhow::Result<()> {
        let Some(device) = self.pending.pop() else { return Ok(()) };
        let keep_clsact = self.scope.keep_clsact;
        let Self { janitor, ledger, attachments, .. } = self;
        let handle = attachments.handle();
        let outcome = attachments.attach(ledger, &device, &mut |makes_clsact| {
            let janitor = match janitor {
                Some(janitor) => janitor,
                None => janitor.insert(Janitor::start(handle, keep_clsact)?),
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
    pub(super) fn reading(&mut self) -> anyhow::Result<Reading> {
        let names: HashMap<u32, &str> =
            self.sample.links.iter().map(|link| (link.index, link.name.as_str())).collect();
        let mut reading =
            self.ledger.read(&self.layout, |index| names.get(&index).map(|name| (*name).to_owned()))?;
        reading.time = Timestamp::now().to_string();
        for link in &mut reading.links {
            link.covered_since = self.covered_since.get(&link.link).map(Timestamp::to_string);
        }
        if !self.scope.with_pods {
            reading.limits.push("pod interfaces are not counted: --no-pod-hooks was given".to_owned());
        }
        reading
            .limits
            .extend(self.refused.iter().map(|(device, why)| format!("{device} is not counted: {why}")));
        reading.limits.extend(self.attachments.limits().map(str::to_owned));
        Ok(reading)
    }

    /// Takes effect when everything is read again.
    pub(super) fn set_pools(&mut self, pools: Vec<Ipv4Net>) {
        self.scope.sources.pools = pools;
    }

    /// Whether every device that is there now has its programs.
    pub(super) fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many devices are covered, and by which means.
    pub(super) fn coverage(&self) -> String {
        let means = self.attachments.means().map_or("nothing", Means::words);
        format!("counting at {} devices, attached by {means}", self.covered_since.len())
    }

    /// How the counting fares.
    pub(super) fn health(&self, reading: &Reading) -> Health {
        let table = |name: &str, used: usize, capacity: u32| TableUse {
            name: name.to_owned(),
            used: used as u64,
            capacity: u64::from(capacity),
        };
        Health {
            covered: self.covered_since.len(),
            pending: self.pending.len(),
            refused: self.refused.clone(),
            attached_by: self.attachments.means().map(|means| means.words().to_lowercase()),
            overruns: self.overruns,
            tables: vec![
                table("drops", reading.drops.len(), DROP_ENTRIES),
                table("links", self.layout.links().count(), LINK_ENTRIES),
            ],
            ..Health::default()
        }
    }

    /// Takes every program away.
    pub(super) fn end(&mut self) {
        self.attachments.detach_all(self.scope.keep_clsact);
    }
}
