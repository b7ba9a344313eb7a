//! Why a black hole opened, as Calico tells it: BIRD and Felix may take seconds to answer, so they are asked beside
//! the counting, once there is something to explain.

use std::{mem, pin::Pin};

use crate::{
    causes::opening::Change,
    sample::Sample,
    sources::{self, GatherOptions},
    state::EventKind,
};

/// What Calico said, and the names of the black holes for which it was asked.
pub(super) struct Answer {
    pub(super) black_holes: Vec<String>,
    pub(super) sample: Sample,
}

/// Asks one question at a time.
pub(super) struct Explaining {
    options: GatherOptions,
    waiting: Vec<String>,
    asked: Option<Pin<Box<dyn Future<Output = Answer>>>>,
}

impl Explaining {
    pub(super) fn new(options: GatherOptions) -> Self {
        Self { options, waiting: Vec::new(), asked: None }
    }

    /// Asks for those that opened, with the node as it was then.
    pub(super) fn ask_for(&mut self, changes: &[Change], sample: &Sample) {
        let opened = changes.iter().filter(|change| change.kind == EventKind::Opened);
        let explainable = opened.filter(|change| change.black_hole.finding.is_some());
        self.waiting.extend(explainable.map(|change| change.black_hole.id.clone()));
        if self.waiting.is_empty() || self.asked.is_some() {
            return;
        }
        let (options, mut sample) = (self.options.clone(), sample.clone());
        let black_holes = mem::take(&mut self.waiting);
        self.asked = Some(Box::pin(async move {
            sources::gather_control_plane(&options, &mut sample).await;
            Answer { black_holes, sample }
        }));
    }

    /// Waits for the answer, for ever where nothing was asked. Cancel safe.
    pub(super) async fn answer(&mut self) -> Answer {
        let Some(asked) = &mut self.asked else { return std::future::pending().await };
        let answer = asked.as_mut().await;
        self.asked = None;
        answer
    }
}
