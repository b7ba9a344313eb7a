//! What only silence shows: peers that are not heard though packets go to them, and pods that ask for their gateway in
//! vain. The ledger and the devices' counters raise the suspicion; what is dear is done under it alone.

use std::{net::Ipv4Addr, path::PathBuf, pin::Pin, time::Duration};

use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    causes::opening::{Heard, Look, MutePods, Seen, Silences, Silent, judge_silence, leads_to},
    model::{Model, peers::Peer},
    observation::{Greeting, Unanswered},
    probing::{greeting::greet, peers::tunnel_address},
    reading::Reading,
    sample::{BgpSession, Fact, Sample},
    sources::{self, GatherOptions, connections, frames},
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1200);

/// A look at silent peers, and what it finds of each.
type Asking = Pin<Box<dyn Future<Output = anyhow::Result<Vec<(Ipv4Addr, Heard)>>>>>;

/// The silent peers and pods of a node over time.
pub(super) struct Listening {
    options: GatherOptions,
    start: Instant,
    peers: Silences,
    pods: MutePods,
    asking: Option<(Duration, Vec<Silent>, Asking)>,
    /// What failed last, so that it is told once.
    failure: Option<String>,
}

impl Listening {
    pub(super) fn new(options: GatherOptions, start: Instant) -> Self {
        let (peers, pods) = (Silences::default(), MutePods::default());
        Self { options, start, peers, pods, asking: None, failure: None }
    }

    /// Takes in what pods sent.
    pub(super) fn hear_pods(&mut self, reading: &Reading) {
        let now = self.start.elapsed();
        if reading.links.is_empty() || !self.pods.is_due(now) {
            return;
        }
        match frames::read() {
            Ok(frames) => self.pods.read(now, &frames, reading),
            Err(error) => self.tell(format!("pods that cannot send are not seen: {error:#}")),
        }
    }

    /// Takes in what went to peers and came from them, and what went to them bare; begins a look at those that are
    /// silent.
    pub(super) fn hear_peers(
        &mut self,
        before: &Reading,
        reading: &Reading,
        bare: &[(Ipv4Addr, u64)],
        sessions: &Fact<Vec<BgpSession>>,
    ) {
        let now = self.start.elapsed();
        self.peers.read(now, before, reading, bare);
        if self.asking.is_some() {
            return;
        }
        let silent = self.peers.due(now);
        if !silent.is_empty() {
            let look = look_at(self.options.clone(), silent.clone(), now, sessions.clone());
            self.asking = Some((now, silent, Box::pin(look)));
        }
    }

    /// Whether the node has to be known as it is now.
    pub(super) fn needs_sample(&self) -> bool {
        !self.pods.is_empty(self.start.elapsed())
    }

    /// What was lost since the reading before.
    pub(super) fn seen(&mut self, model: &Model<'_>) -> Vec<Seen> {
        let mut seen = self.peers.seen();
        seen.extend(self.pods.seen(self.start.elapsed(), model));
        seen
    }

    /// Whether anything is lost in silence.
    pub(super) fn is_quiet(&self) -> bool {
        !self.needs_sample() && !self.peers.any_lost()
    }

    /// Waits for the end of the look that is under way, for ever where none is. Cancel safe.
    pub(super) async fn look(&mut self) {
        let Some((_, _, asking)) = &mut self.asking else { return std::future::pending().await };
        let outcome = asking.as_mut().await;
        let Some((began, silent, _)) = self.asking.take() else { return };
        let now = self.start.elapsed();
        let mut found = outcome.unwrap_or_else(|error| {
            self.tell(format!("why peers are silent is not known: {error:#}"));
            Vec::new()
        });
        for Silent { peer, .. } in silent {
            let place = found.iter().position(|(of, _)| *of == peer);
            let heard = place.map_or(Heard::Unknown, |place| found.swap_remove(place).1);
            self.peers.judged(began, now, peer, heard);
        }
    }

    fn tell(&mut self, failure: String) {
        if self.failure.as_ref() != Some(&failure) {
            tracing::warn!("{failure}");
            self.failure = Some(failure);
        }
    }
}

/// Looks whether anything that was sent to these peers needs an answer and has none, asks the peers themselves, and
/// judges them. They were silent at `now`, counted as their silence is.
async fn look_at(
    options: GatherOptions,
    silent: Vec<Silent>,
    now: Duration,
    sessions: Fact<Vec<BgpSession>>,
) -> anyhow::Result<Vec<(Ipv4Addr, Heard)>> {
    let start = Instant::now();
    let first = unanswered(options.root.clone()).await?;
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let before = sources::gather(&options).await?;
    let asked = to_be_asked(&before, &silent, &first);
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let greetings = greetings(&asked, start + PATIENCE).await;
    let mut still = unanswered(options.root.clone()).await?;
    still.retain(|one| first.iter().any(|other| one.is(other)));
    let after = sources::gather(&options).await?;
    let model = Model::new(&after);
    let look = Look {
        before: &before,
        after: &after,
        unanswered: &still,
        greetings: &greetings,
        sessions: &sessions,
    };
    let silent_for = now + start.elapsed();
    let judge = |silent: Silent| {
        (silent.peer, judge_silence(&model, &look, silent, silent_for.saturating_sub(silent.since)))
    };
    Ok(silent.into_iter().map(judge).collect())
}

/// Hundreds of thousands of entries take the kernel a moment.
async fn unanswered(root: PathBuf) -> anyhow::Result<Vec<Unanswered>> {
    spawn_blocking(move || connections::unanswered(&root)).await?
}

/// The peers to which something unanswered went, each with its end of the tunnel. Without an address on `tunl0` this
/// node's own packets are no pods'.
fn to_be_asked(
    sample: &Sample,
    silent: &[Silent],
    unanswered: &[Unanswered],
) -> Vec<(Ipv4Addr, Option<Ipv4Addr>)> {
    let model = Model::new(sample);
    let tunnel = model.tunnel().map(|tunnel| tunnel.index);
    let has_address = sample.addresses.iter().any(|address| Some(address.link) == tunnel);
    let waits = |peer: &Ipv4Addr| unanswered.iter().any(|one| leads_to(&model, one.target, *peer));
    let peers = silent.iter().map(|silent| silent.peer).filter(waits);
    let end = |peer| {
        let echo = tunnel_address(&model, &Peer::of(&model, peer)).filter(|_| has_address)?;
        Some(echo.address)
    };
    peers.map(|peer| (peer, end(peer))).collect()
}

/// What the peers answer until then; nothing where this process may not ask.
async fn greetings(asked: &[(Ipv4Addr, Option<Ipv4Addr>)], until: Instant) -> Vec<Greeting> {
    let patience = until.saturating_duration_since(Instant::now()).max(PATIENCE / 2);
    match greet(asked, patience).await {
        Ok(greetings) => greetings,
        Err(error) => {
            tracing::debug!("silent peers are not asked: {error:#}");
            tokio::time::sleep(patience).await;
            Vec::new()
        }
    }
}
