//! One file per command: gather, judge, report, nothing else.

pub mod bundle;
pub mod check;
pub mod cleanup;
pub mod cluster;
pub mod completions;
pub mod detach;
pub mod diagnose;
pub mod events;
mod following;
mod joined;
mod look;
pub mod manual;
pub mod observe;
pub mod peers;
pub mod preflight;
mod progress;
mod remote;
pub mod reset;
pub mod routes;
pub mod run;
mod several;
pub mod snapshot;
mod standard_output;
pub mod verify;
pub mod version;
pub mod watch;
mod watched;
