//! Black holes as they open and close: what the ledger counted as lost, judged by the same rules as a diagnosis, and
//! only told once it is no passing trouble.

mod examples;
mod hysteresis;
mod judging;
mod mute_pods;
#[cfg(test)]
mod ordinary_life;
mod silence;
mod silent_peer;

pub use examples::Examples;
pub use hysteresis::{Change, Explanation, Key, Openings, Seen};
pub use judging::{Judged, judge, of_document, question};
pub use mute_pods::MutePods;
pub use silence::{Heard, Silences, Silent};
pub use silent_peer::{Look, bare_peer, judge_silence, leads_to};
