//! caliprobe shows where pod traffic of a Calico node in IPIP mode is lost, why, and what to type.
//!
//! Data flows one way: `sources` and `kernel` read the machine, a [`sample`] holds what they read, the
//! [`model`] names it, [`causes`] judge it, the [`report`] says it, the [`screen`] shows it live.
//! `masking` takes out what
//! must not leave a node. `probing` sends and follows probes. [`changing`] alone changes the node, by a plan and with a journal.

pub mod causes;
pub mod changing;
pub mod cli;
pub mod commands;
pub mod daemon;
pub mod diagnosis;
pub mod exit;
pub mod kernel;
pub mod masking;
pub mod model;
pub mod observation;
pub mod plan;
pub mod probing;
pub mod readiness;
pub mod reading;
pub mod report;
pub mod sample;
pub mod screen;
pub mod serving;
pub mod sources;
pub mod state;
pub mod tls;
