//! Losses of pods' traffic on this node's path: how many a second then and now. A kind of loss is worse only where it is
//! plainly more than BEFORE itself varied.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::Serialize;

use super::{
    Change, Happened, Meaning,
    conditions::{findings, has},
};
use crate::{
    causes::{
        drop_kind::DropKind,
        opening::{self, Judged},
    },
    model::{
        Model,
        increments::{Loss, Packet, Way, losses},
    },
    reading::Reading,
    report::document::{Finding, SubjectKind},
    sample::{Ledger, NetfilterRule, RuleSets, Sample},
};

/// Fewer packets than this are told, and held against nobody.
const FEWEST: u64 = 10;
/// How many standard deviations of a count are still the same rate.
const DEVIATIONS: f64 = 3.0;

/// How packets of one kind were lost: by which reason and function, or bare for want of a route of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Dropped { reason: Option<String>, symbol: Option<String> },
    Bare,
}

impl Kind {
    /// `None` for what is dropped where it was delivered: a socket had no use for it.
    fn of(way: &Way) -> Option<Self> {
        match way {
            Way::Bare { .. } => Some(Self::Bare),
            Way::Dropped { reason, symbol, .. } => {
                let kind = DropKind::of_names(reason.as_deref(), symbol.as_deref(), None);
                let dropped = Self::Dropped { reason: reason.clone(), symbol: symbol.clone() };
                (kind != DropKind::Socket).then_some(dropped)
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Bare => "left bare for a pool".to_owned(),
            Self::Dropped { reason, symbol } => {
                let function = symbol.as_deref().unwrap_or("a function without a name");
                match reason {
                    Some(reason) => format!("were dropped in {function} ({reason})"),
                    None => format!("were dropped in {function}"),
                }
            }
        }
    }
}

/// One kind of loss, in segments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossRate {
    /// `enum skb_drop_reason` by name; absent where the kernel gives none, and for what left bare.
    pub reason: Option<String>,
    pub symbol: Option<String>,
    /// Whether these left without encapsulation rather than being dropped.
    pub bare: bool,
    pub before: Option<Rate>,
    pub now: Option<Rate>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    pub packets: u64,
    pub per_second: f64,
    /// Of the busiest part of the window.
    pub highest_per_second: f64,
}

/// What passed and what was lost within a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Segments from and to pods.
    pub before: Option<Rate>,
    pub now: Option<Rate>,
    pub losses: Vec<LossRate>,
}

/// What was counted around both looks; `None` where neither was counted over a time.
pub fn traffic(before: &Model<'_>, after: &Model<'_>) -> Option<Traffic> {
    let (was, is) = (Window::of(before.sample), Window::of(after.sample));
    if was.is_none() && is.is_none() {
        return None;
    }
    let rates = |window: &Option<Window<'_>>| window.as_ref().map(Window::losses).unwrap_or_default();
    let (old, new) = (rates(&was), rates(&is));
    let kinds = old.keys().chain(new.keys().filter(|kind| !old.contains_key(*kind)));
    let losses = kinds.map(|kind| {
        let (reason, symbol) = match kind {
            Kind::Dropped { reason, symbol } => (reason.clone(), symbol.clone()),
            Kind::Bare => (None, None),
        };
        let rate = |rates: &BTreeMap<Kind, Rate>, window: bool| {
            window.then(|| rates.get(kind).copied().unwrap_or_default())
        };
        LossRate {
            reason,
            symbol,
            bare: *kind == Kind::Bare,
            before: rate(&old, was.is_some()),
            now: rate(&new, is.is_some()),
        }
    });
    Some(Traffic {
        losses: losses.collect(),
        before: was.as_ref().map(Window::passed),
        now: is.as_ref().map(Window::passed),
    })
}

/// Kinds of losses that are new, or plainly more than before.
pub fn judge(before: &Model<'_>, after: &Model<'_>, said: &[Change]) -> Vec<Change> {
    let (Some(was), Some(is)) = (Window::of(before.sample), Window::of(after.sample)) else {
        return Vec::new();
    };
    let (old, seconds) = (was.faults(before, &[]), is.seconds());
    let usual = |kind: &Kind| old.get(kind).map(|fault| fault.rate).unwrap_or_default();
    let new = is.faults(after, &findings(before));
    let more = new
        .into_iter()
        .filter(|(kind, fault)| is_more(fault.rate.packets, usual(kind).highest_per_second * seconds));
    let changes = more.map(|(kind, fault)| fault.change((before, after), &kind, usual(&kind), seconds));
    let is_said = |change: &Change| {
        change.finding.as_ref().is_some_and(|finding| {
            let mut others = said.iter().filter_map(|other| other.finding.as_ref());
            others.any(|other| other.cause == finding.cause && other.subject == finding.subject)
        })
    };
    changes.filter(|change| !is_said(change)).collect()
}

/// Whether so many are more than the busiest part of BEFORE would have had in that time, chance aside.
fn is_more(packets: u64, usual: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
    let packets_now = packets as f64;
    packets >= FEWEST && packets_now > usual + DEVIATIONS * usual.sqrt()
}

/// A kind of loss that no law excuses, with the packets that most of it were like.
struct Lost {
    rate: Rate,
    most: u64,
    loss: Loss,
    finding: Option<Finding>,
}

impl Lost {
    fn of(loss: Loss) -> Self {
        Self { rate: Rate::default(), most: 0, loss, finding: None }
    }

    fn enter(&mut self, loss: Loss, finding: Option<Finding>) {
        if loss.packets >= self.most {
            self.most = loss.packets;
            self.loss = loss;
        }
        self.finding = self.finding.take().or(finding);
    }

    fn change(
        self,
        (before, after): (&Model<'_>, &Model<'_>),
        kind: &Kind,
        usual: Rate,
        seconds: f64,
    ) -> Change {
        let (source, destination) = ends(&self.loss);
        let source = if source.is_unspecified() { "this node".to_owned() } else { source.to_string() };
        let (meaning, why) = if self.finding.is_none() && is_of_new_policy(before, after, kind) {
            (Meaning::Unknown, "; Calico's rules changed too, and a policy may say so")
        } else {
            (Meaning::Regression, "")
        };
        let summary = format!(
            "{} packets {} within {seconds:.0} s, before {:.1} a second; the last was {source} → {destination}{why}",
            self.rate.packets,
            kind.words(),
            usual.per_second
        );
        let subject = (SubjectKind::Address, destination.to_string());
        Change { finding: self.finding, ..Change::new((Happened::Came, meaning), subject, summary) }
    }
}

enum Fault {
    Lawful,
    Known(Box<Finding>),
    Unexplained,
}

/// What the node's state says of such a loss. Rules, queues and filters do not show which of them it was.
fn fault(after: &Model<'_>, loss: &Loss) -> Fault {
    if let Way::Dropped { reason, symbol, .. } = &loss.way {
        let kind = DropKind::of_names(reason.as_deref(), symbol.as_deref(), None);
        if matches!(kind, DropKind::Queue | DropKind::Filter | DropKind::Other) {
            return Fault::Unexplained;
        }
    }
    match opening::judge(after, loss) {
        Judged::Lawful => Fault::Lawful,
        Judged::ByRules => Fault::Unexplained,
        Judged::BlackHole(explanation) => {
            explanation.finding.map_or(Fault::Unexplained, |finding| Fault::Known(Box::new(finding)))
        }
    }
}

fn ends(loss: &Loss) -> (Ipv4Addr, Ipv4Addr) {
    match loss.last {
        Packet::Dropped(last) => (last.source, last.destination),
        Packet::Bare(last) => (last.source, last.destination),
    }
}

/// Whether one end of the packet is an address of this node's block that no pod has any more: pods come and go, and
/// those who talk to them need a moment to learn it.
fn is_of_gone_pod(after: &Model<'_>, loss: &Loss) -> bool {
    let (source, destination) = ends(loss);
    let is_gone = |address: Ipv4Addr| {
        after.own_block(address).is_some()
            && !after.is_local(address)
            && !after.is_local_pod(address)
            && !is_still_named(after, address)
    };
    is_gone(source) || is_gone(destination)
}

fn is_still_named(after: &Model<'_>, address: Ipv4Addr) -> bool {
    let results = after.sample.cni_results.known().map_or(&[][..], Vec::as_slice);
    let inside = after.sample.pod_interfaces.iter();
    results.iter().any(|result| result.addresses.contains(&address))
        || inside.filter(|pod| pod.inhabited != Some(false)).any(|pod| pod.addresses.contains(&address))
}

/// Whether rules dropped it, and Calico's own rules are not as they were.
fn is_of_new_policy(before: &Model<'_>, after: &Model<'_>, kind: &Kind) -> bool {
    let Kind::Dropped { reason, symbol } = kind else { return false };
    let kind = DropKind::of_names(reason.as_deref(), symbol.as_deref(), None);
    if !matches!(kind, DropKind::Netfilter(_)) {
        return false;
    }
    match (before.sample.rule_sets.known(), after.sample.rule_sets.known()) {
        (Some(was), Some(is)) => calico_rules(was) != calico_rules(is),
        _ => true,
    }
}

/// Rules of Calico's chains, without what they counted.
fn calico_rules(rules: &RuleSets) -> Vec<(&str, &str, NetfilterRule)> {
    let mut found = Vec::new();
    for table in &rules.tables {
        for chain in table.chains.iter().filter(|chain| chain.name.starts_with("cali-")) {
            let rules =
                chain.rules.iter().map(|rule| NetfilterRule { packets: None, handle: None, ..rule.clone() });
            found.extend(rules.map(|rule| (table.name.as_str(), chain.name.as_str(), rule)));
        }
    }
    found
}

/// What a ledger shows over a time.
struct Window<'a> {
    readings: &'a [Reading],
}

impl<'a> Window<'a> {
    fn of(sample: &'a Sample) -> Option<Self> {
        let ledger: &Ledger = sample.ledger.known()?;
        (ledger.readings.len() > 1).then_some(Self { readings: &ledger.readings })
    }

    fn seconds(&self) -> f64 {
        self.readings.windows(2).map(seconds_between).sum()
    }

    /// What is lost though nothing says that it should be, but for what is known to be wrong.
    fn faults(&self, model: &Model<'_>, known: &[Finding]) -> BTreeMap<Kind, Lost> {
        let mut lost: BTreeMap<Kind, Lost> = BTreeMap::new();
        for pair in self.readings.windows(2) {
            let mut rose: BTreeMap<Kind, u64> = BTreeMap::new();
            for loss in losses(&pair[0], &pair[1]) {
                let Some(kind) = Kind::of(&loss.way).filter(|_| !is_of_gone_pod(model, &loss)) else {
                    continue;
                };
                let finding = match fault(model, &loss) {
                    Fault::Lawful => continue,
                    Fault::Known(finding) if has(known, &finding) => continue,
                    Fault::Known(finding) => Some(*finding),
                    Fault::Unexplained => None,
                };
                *rose.entry(kind.clone()).or_default() += loss.packets;
                lost.entry(kind).or_insert_with(|| Lost::of(loss.clone())).enter(loss, finding);
            }
            for (kind, packets) in rose {
                if let Some(lost) = lost.get_mut(&kind) {
                    lost.rate.add(packets, seconds_between(pair));
                }
            }
        }
        for lost in lost.values_mut() {
            lost.rate.end(self.seconds());
        }
        lost
    }

    fn losses(&self) -> BTreeMap<Kind, Rate> {
        let mut rates: BTreeMap<Kind, Rate> = BTreeMap::new();
        for pair in self.readings.windows(2) {
            let mut rose: BTreeMap<Kind, u64> = BTreeMap::new();
            for loss in losses(&pair[0], &pair[1]) {
                if let Some(kind) = Kind::of(&loss.way) {
                    *rose.entry(kind).or_default() += loss.packets;
                }
            }
            for (kind, packets) in rose {
                rates.entry(kind).or_default().add(packets, seconds_between(pair));
            }
        }
        for rate in rates.values_mut() {
            rate.end(self.seconds());
        }
        rates
    }

    fn passed(&self) -> Rate {
        let sum = |reading: &Reading| -> u64 {
            reading.links.iter().map(|link| link.from_pod.segments + link.to_pod.segments).sum()
        };
        let mut rate = Rate::default();
        for pair in self.readings.windows(2) {
            // The counts of a pod that ended are gone with it.
            rate.add(sum(&pair[1]).saturating_sub(sum(&pair[0])), seconds_between(pair));
        }
        rate.end(self.seconds());
        rate
    }
}

impl Rate {
    fn add(&mut self, packets: u64, seconds: f64) {
        self.packets += packets;
        self.highest_per_second = self.highest_per_second.max(per_second(packets, seconds));
    }

    fn end(&mut self, seconds: f64) {
        self.per_second = per_second(self.packets, seconds);
    }
}

fn per_second(packets: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let packets = packets as f64;
    if seconds > 0.0 { packets / seconds } else { 0.0 }
}

fn seconds_between(pair: &[Reading]) -> f64 {
    let parsed = |reading: &Reading| reading.time.parse::<jiff::Timestamp>().ok();
    match pair {
        [one, other] => parsed(one)
            .zip(parsed(other))
            .map_or(0.0, |(one, other)| other.duration_since(one).as_secs_f64().max(0.0)),
        _ => 0.0,
    }
}

/// What is not known of losses, and why.
pub fn not_seen(before: &Model<'_>, after: &Model<'_>) -> Vec<(&'static str, String)> {
    const LOSSES: &str = "whether packets are lost";
    let (was, is) = (Window::of(before.sample), Window::of(after.sample));
    let mut unseen = Vec::new();
    match (&was, &is) {
        (_, None) => {
            let why = match after.sample.ledger.absent() {
                Some(why) => why.to_owned(),
                None => "it was counted over no time; --window 10s does".to_owned(),
            };
            unseen.push((LOSSES, why));
        }
        (None, Some(_)) => {
            let why = "nothing was counted before: `snapshot save --window 10s` does".to_owned();
            unseen.push(("whether more packets are lost than before", why));
        }
        _ => {}
    }
    let readings = [was, is].into_iter().flatten().filter_map(|window| window.readings.last());
    let mut limits: Vec<&String> = readings.flat_map(|reading| &reading.limits).collect();
    limits.sort();
    limits.dedup();
    unseen.extend(limits.into_iter().map(|limit| ("a part of the traffic", limit.clone())));
    unseen
}
