//! One file per command: gather, judge, report, nothing else.

pub mod check;
pub mod cleanup;
pub mod cluster;
pub mod detach;
pub mod diagnose;
pub mod events;
mod following;
mod look;
pub mod observe;
pub mod peers;
pub mod preflight;
pub mod routes;
pub mod run;
mod several;
pub mod snapshot;
pub mod verify;
pub mod watch;
