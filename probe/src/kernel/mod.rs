//! The only place that names aya: programs loaded, attached and read; and what the running kernel says of
//! itself: its types (BTF) and its symbols.

pub mod attachments;
#[cfg(feature = "bench")]
pub mod bench;
pub mod btf;
mod drop_program;
pub mod instance;
pub mod janitor;
pub mod ledger;
mod names;
pub mod support;
pub mod symbols;
pub mod trace;
mod visibility;

use aya::include_bytes_aligned;

/// The kernel programs, built by the build script.
static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe"));

/// An error in one line, without the verifier's log that a refused program carries.
pub fn in_a_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let text = text.split("Verifier output:").next().unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().trim();
    line.trim_end_matches('.').to_owned()
}
