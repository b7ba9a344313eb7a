//! Whether the cause of a suspicion still stands: its first loss is judged again by the node as it is now.

use super::{Explanation, Judged, Key, Openings, Seen, judge};
use crate::{
    model::{Model, increments::Loss},
    report::document::Evidence,
};

/// The first loss of a black hole, and the settings that explained it.
#[derive(Clone, Debug)]
struct Example {
    key: Key,
    loss: Loss,
    settings: Vec<Evidence>,
}

/// A loss for each suspicion and black hole.
#[derive(Clone, Debug, Default)]
pub struct Examples(Vec<Example>);

impl Examples {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was lost since the reading before, and what was not though its cause still stands.
    pub fn seen(&mut self, model: &Model<'_>, found: Vec<(Explanation, &Loss)>) -> Vec<Seen> {
        for (explanation, loss) in &found {
            self.remember(explanation, loss);
        }
        let lost = found.into_iter().map(|(explanation, loss)| Seen { explanation, packets: loss.packets });
        let mut seen: Vec<Seen> = lost.collect();
        for Example { key, loss, settings } in &self.0 {
            if key.cause.is_some()
                && !seen.iter().any(|seen| seen.explanation.key == *key)
                && let Judged::BlackHole(explanation) = judge(model, loss)
                && explanation.key == *key
                && explanation.settings() == *settings
            {
                seen.push(Seen { explanation: *explanation, packets: 0 });
            }
        }
        seen
    }

    /// Forgets those of which nothing is left.
    pub fn keep_known(&mut self, openings: &Openings) {
        self.0.retain(|example| openings.knows(&example.key));
    }

    /// The first loss stays the example: a later one may be of packets that were on their way when the settings changed.
    fn remember(&mut self, explanation: &Explanation, loss: &Loss) {
        if !self.0.iter().any(|example| example.key == explanation.key) {
            let (key, settings) = (explanation.key.clone(), explanation.settings());
            self.0.push(Example { key, loss: loss.clone(), settings });
        }
    }
}
