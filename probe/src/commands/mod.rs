//! One file per command: gather, judge, report, nothing else.

pub mod detach;
pub mod diagnose;
pub mod preflight;
pub mod routes;
pub mod run;
