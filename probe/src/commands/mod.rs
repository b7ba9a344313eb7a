//! One file per command: gather, judge, report, nothing else.

pub mod check;
pub mod cluster;
pub mod detach;
pub mod diagnose;
pub mod events;
mod look;
pub mod peers;
pub mod preflight;
pub mod routes;
pub mod run;
mod several;
