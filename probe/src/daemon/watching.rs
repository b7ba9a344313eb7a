//! Turns readings of the ledger into black holes that open and close.

use std::{cell::LazyCell, mem, pin::Pin, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{listening::Listening, look::look_at};
use crate::{
    causes::opening::{Change, Examples, Judged, Openings, bare_peer, judge, question},
    model::{
        Model,
        increments::{Loss, Way, losses},
    },
    reading::Reading,
    report::document::Finding,
    sample::{BgpSession, Fact, Sample},
    sources::GatherOptions,
    state::BlackHole,
};

/// Kinds of losses that are judged at one reading, those of the most packets first.
const MOST_JUDGED: usize = 64;
/// How long it holds what a look at the packets showed of losses by rules.
const SHOWN: Duration = Duration::from_mins(1);
/// The pause between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A look at the packets themselves; nothing where none passed meanwhile.
type Look = Pin<Box<dyn Future<Output = anyhow::Result<Option<Judged>>>>>;

/// The losses of a node over time.
pub(super) struct Watching {
    options: GatherOptions,
    start: Instant,
    before: Reading,
    openings: Openings,
    examples: Examples,
    listening: Listening,
    looking: Option<(Way, Look)>,
    shown: Vec<(Way, Judged, Instant)>,
    next_look: Instant,
    named: u64,
}

impl Watching {
    pub(super) fn new(options: GatherOptions) -> Self {
        let now = Instant::now();
        Self {
            listening: Listening::new(options.clone(), now),
            options,
            start: now,
            before: Reading::default(),
            openings: Openings::default(),
            examples: Examples::default(),
            looking: None,
            shown: Vec::new(),
            next_look: now,
            named: 0,
        }
    }

    /// Takes in what pods sent that is no packet.
    pub(super) fn hear_pods(&mut self, reading: &Reading) {
        self.listening.hear_pods(reading);
    }

    /// What was lost since the reading before.
    pub(super) fn losses(&self, reading: &Reading) -> Vec<Loss> {
        let mut losses = losses(&self.before, reading);
        losses.sort_by_key(|loss| std::cmp::Reverse(loss.packets));
        losses.truncate(MOST_JUDGED);
        losses
    }

    /// Whether the node has to be known as it is now.
    pub(super) fn needs_sample(&self, losses: &[Loss]) -> bool {
        !losses.is_empty() || !self.examples.is_empty() || self.listening.needs_sample()
    }

    /// Those that are open.
    pub(super) fn open(&self) -> Vec<BlackHole> {
        self.openings.open()
    }

    /// Takes in one reading, and what BIRD said last.
    pub(super) fn advance(
        &mut self,
        reading: &Reading,
        losses: &[Loss],
        sample: &Sample,
        sessions: &Fact<Vec<BgpSession>>,
    ) -> Vec<Change> {
        let model = LazyCell::new(|| Model::new(sample));
        let before = mem::replace(&mut self.before, reading.clone());
        let bare = losses.iter().filter_map(|loss| Some((bare_peer(&model, loss)?, loss.packets)));
        self.listening.hear_peers(&before, reading, &bare.collect::<Vec<_>>(), sessions);
        if losses.is_empty() && self.openings.is_empty() && self.listening.is_quiet() {
            return Vec::new();
        }
        self.shown.retain(|(_, _, since)| since.elapsed() < SHOWN);
        let mut found = Vec::new();
        for loss in losses {
            let judged = match judge(&model, loss) {
                Judged::ByRules => self.shown_of(sample, &model, loss),
                judged => judged,
            };
            if let Judged::BlackHole(explanation) = judged {
                found.push((*explanation, loss));
            }
        }
        let mut seen = self.examples.seen(&model, found);
        seen.extend(self.listening.seen(&model));
        let (start, named) = (self.start, &mut self.named);
        let clock = Timestamp::now();
        let changes = self.openings.advance(start.elapsed(), clock, &seen, &mut || {
            *named += 1;
            format!("{}-{named}", clock.as_millisecond())
        });
        self.examples.keep_known(&self.openings);
        changes
    }

    /// Adds to open black holes, by their names, what explains them.
    pub(super) fn explain(&mut self, ids: &[String], explain: &dyn Fn(&mut Finding)) -> Vec<Change> {
        ids.iter().filter_map(|id| self.openings.explain(id, explain)).collect()
    }

    /// What a look at such packets showed. One look is begun at a time.
    fn shown_of(&mut self, sample: &Sample, model: &Model<'_>, loss: &Loss) -> Judged {
        if let Some((_, judged, _)) = self.shown.iter().find(|(way, ..)| *way == loss.way) {
            return judged.clone();
        }
        if self.looking.is_none() && Instant::now() >= self.next_look {
            let look: Look = Box::pin(look_at(self.options.clone(), sample.clone(), question(model, loss)));
            self.looking = Some((loss.way.clone(), look));
        }
        Judged::Lawful
    }

    /// Waits for the end of a look that is under way, for ever where none is. Cancel safe.
    pub(super) async fn look(&mut self) {
        let outcome = tokio::select! {
            outcome = looked(&mut self.looking) => outcome,
            () = self.listening.look() => return,
        };
        self.next_look = Instant::now() + BETWEEN_LOOKS;
        let Some((way, _)) = self.looking.take() else { return };
        match outcome {
            Ok(Some(judged)) => self.shown.push((way, judged, Instant::now())),
            Ok(None) => {}
            Err(error) => tracing::warn!("cannot look at packets that rules drop: {error:#}"),
        }
    }
}

async fn looked(looking: &mut Option<(Way, Look)>) -> anyhow::Result<Option<Judged>> {
    match looking {
        Some((_, look)) => look.as_mut().await,
        None => std::future::pending().await,
    }
}
