//! One file per command: gather, judge, report, nothing else.

pub mod diagnose;
