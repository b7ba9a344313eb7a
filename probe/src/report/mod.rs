//! Findings made into what a person or a program reads.

pub mod black_hole;
pub mod bundle;
pub mod check;
pub mod cleaned;
pub mod cleanup;
pub mod cluster;
pub mod document;
pub mod error;
pub mod events;
pub mod joined;
pub mod ledger;
pub mod metrics;
pub mod observed;
pub mod peers;
pub mod preflight;
pub mod reset_follow;
pub mod reset_plan;
pub mod routes;
pub mod snapshot;
mod table;
pub mod text;
pub mod verify;
pub mod version;
