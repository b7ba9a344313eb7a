//! `cargo xtask docs`: what is generated from the code, for people to read.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{binaries::cargo, command};

const METRICS: &str = "docs/metrics.md";

pub fn run() -> Result<ExitCode> {
    let mut reference = cargo();
    reference.args(["run", "--quiet", "--package", "caliprobe", "--example", "metrics-reference"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(METRICS);
    fs::write(&path, command::output(&mut reference)?).with_context(|| format!("cannot write {METRICS}"))?;
    println!("docs: {METRICS} is written");
    Ok(ExitCode::SUCCESS)
}
