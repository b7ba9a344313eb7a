//! `cargo xtask fuzz`: what is read from files, with everything in it changed at random.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    binaries::{self, cargo},
    command,
};

/// What is read.
const TARGETS: [&str; 2] = ["snapshots", "plans"];

#[derive(clap::Args)]
pub struct FuzzArguments {
    /// How long for each kind of file
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// What the changes follow from, to have the same ones again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub fn run(arguments: &FuzzArguments) -> Result<ExitCode> {
    let mut build = cargo();
    build.args(["build", "--package", "caliprobe", "--example", "fuzz"]);
    let program = binaries::built(&mut build, "fuzz")?;
    let mut is_fine = true;
    for target in TARGETS {
        let mut fuzz = Command::new(&program);
        fuzz.arg(target).arg(arguments.seconds.to_string());
        fuzz.args(arguments.seed.map(|seed| seed.to_string()));
        let status = fuzz.status().with_context(|| format!("cannot start {}", command::line(&fuzz)))?;
        is_fine &= status.success();
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
