//! `cargo xtask bench`: what each kernel program costs on this machine's kernel, what it costs to answer a scraper, to
//! save and read a large snapshot, and to hold 500 nodes against each other, and what the daemon and the commands take
//! on a large node.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    binaries::{self, cargo},
    command, setup,
};

pub fn run() -> Result<ExitCode> {
    setup::ensure(&[])?;
    let programs = run_as_root("programs", &["--features", "bench"])?;
    println!();
    for bench in ["pages", "snapshots", "joined"] {
        command::run(cargo().args(["bench", "--quiet", "--package", "caliprobe", "--bench", bench]))?;
        println!();
    }
    let daemon = run_as_root("daemon", &[])?;
    println!();
    let commands = run_as_root("commands", &[])?;
    Ok(if programs && daemon && commands { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether it could measure.
fn run_as_root(name: &str, features: &[&str]) -> Result<bool> {
    let mut build = cargo();
    build.args(["bench", "--package", "caliprobe", "--bench", name, "--no-run"]).args(features);
    let mut bench = command::as_root(&binaries::built(&mut build, name)?);
    let status = bench.status().with_context(|| format!("cannot start {}", command::line(&bench)))?;
    Ok(status.success())
}
