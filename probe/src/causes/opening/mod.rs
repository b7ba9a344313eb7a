//! Black holes as they open and close: what the ledger counted as lost, judged by the same rules as a diagnosis, and
//! only told once it is no passing trouble.

mod examples;
mod hysteresis;
mod judging;
#[cfg(test)]
mod ordinary_life;

pub use examples::Examples;
pub use hysteresis::{Change, Explanation, Key, Openings, Seen};
pub use judging::{Judged, judge, of_document, question};
