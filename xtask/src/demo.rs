//! `cargo xtask demo`: a cluster that works, breaks and is repaired, with caliprobe's word on each.

use std::{
    ffi::OsString,
    io,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{binaries::Binaries, command, guest::Guest, kernels::Series, lab, setup};

#[derive(Args)]
pub struct DemoArguments {
    /// Use this machine's own kernel, in network namespaces, in place of a guest's
    #[arg(long)]
    host: bool,
}

const TIME_LIMIT: Duration = Duration::from_mins(5);

pub fn run(arguments: &DemoArguments) -> Result<ExitCode> {
    let code = if arguments.host { on_host()? } else { in_guest()? };
    Ok(lab::exit_code(code))
}

fn in_guest() -> Result<i32> {
    let kernels = setup::ensure(&[Series::V6_12])?;
    let kernel = kernels.first().context("the set-up left no kernel")?;
    let demo = command_line(Binaries::build()?);
    Guest { kernel, time_limit: TIME_LIMIT }.run(&demo, &mut io::stdout())
}

fn on_host() -> Result<i32> {
    ensure!(
        has_ipip(),
        "this kernel has no ipip, so it cannot have a tunl0; without --host a guest's kernel is used"
    );
    setup::ensure(&[])?;
    let [program, arguments @ ..] = command_line(Binaries::build()?);
    let mut demo = command::as_root(&program);
    let status =
        demo.args(arguments).status().with_context(|| format!("cannot start {}", command::line(&demo)))?;
    status.code().context("the demo was killed")
}

fn command_line(binaries: Binaries) -> [OsString; 4] {
    [binaries.lab.into(), "demo".into(), "--caliprobe".into(), binaries.caliprobe.into()]
}

/// Whether ipip is in the kernel or can be loaded into it.
fn has_ipip() -> bool {
    let can_be_loaded = |modprobe| command::succeeds(Command::new(modprobe).args(["--dry-run", "ipip"]));
    Path::new("/sys/module/ipip").exists() || command::find_program("modprobe").is_some_and(can_be_loaded)
}
