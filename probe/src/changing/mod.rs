//! The only place that changes this node: it carries a clean-up plan out step by step, keeps a journal of what it is
//! about to do, and puts everything back where something got worse, or where it is asked to.

mod bare_packets;
mod device_settings;
pub mod guard;
pub mod journal;
pub mod kernel;
pub mod messages;
pub mod plan_file;
pub mod refusals;
pub mod run;
pub mod steps;
pub mod undo;
