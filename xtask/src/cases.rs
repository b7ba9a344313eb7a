//! `cargo xtask cases`: what `caliprobe check --input` says of outputs that people showed, against what it must say.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{binaries::cargo, command};

#[derive(Args)]
pub struct CasesArguments {
    /// A folder of cases, each a folder of outputs beside a file `NAME.toml`; without it those of the tests
    folder: Option<PathBuf>,
}

pub fn run(arguments: &CasesArguments) -> Result<ExitCode> {
    let mut test = cargo();
    test.args([
        "test",
        "--quiet",
        "--package",
        "caliprobe",
        "--test",
        "cases",
        "every_case",
        "--",
        "--nocapture",
    ]);
    if let Some(folder) = &arguments.folder {
        let folder = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
        test.env("CALIPROBE_CASES", folder);
    }
    let status = test.status().with_context(|| format!("cannot start {}", command::line(&test)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
