//! `cargo xtask bench`: what each kernel program costs on this machine's kernel, and what it costs to answer a scraper.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    binaries::{self, cargo},
    command, setup,
};

pub fn run() -> Result<ExitCode> {
    setup::ensure(&[])?;
    let mut build = cargo();
    build.args(["bench", "--package", "caliprobe", "--features", "bench", "--bench", "programs", "--no-run"]);
    let program = binaries::built(&mut build, "programs")?;
    let mut bench = command::as_root(&program);
    let status = bench.status().with_context(|| format!("cannot start {}", command::line(&bench)))?;
    println!();
    command::run(cargo().args(["bench", "--quiet", "--package", "caliprobe", "--bench", "pages"]))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
