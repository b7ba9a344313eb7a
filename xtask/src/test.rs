//! `cargo xtask test`: formatting, lints, all tests of the workspace, and all scenarios on real kernels.

use std::{
    io,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    binaries::{Binaries, cargo},
    cache::Cache,
    command,
    counts::{Counting, Counts},
    kernels::{Kernel, Series},
    lab::{Programs, Scenarios},
    scenarios, setup,
    tools::Toolchain,
    unpacked::{KUSTOMIZE, PROMETHEUS},
};

#[derive(Args)]
pub struct TestArguments {
    /// Run every scenario on every kernel, not only those that are marked `short`, and once more without eBPF
    #[arg(long)]
    full: bool,
}

pub fn run(arguments: &TestArguments) -> Result<ExitCode> {
    let start = Instant::now();
    let kernels = setup::ensure(&Series::ALL)?;
    println!("== set-up: {} s", start.elapsed().as_secs());

    let mut rings = Rings::default();
    rings.run("formatting", formatting);
    rings.run("lints", lints);
    rings.run("lints of the kernel programs", lints_of_kernel_programs);
    let build = Instant::now();
    match programs() {
        Ok(programs) => {
            println!("== build: {} s", build.elapsed().as_secs());
            let with = |without_bpf| Chosen { programs: &programs, full: arguments.full, without_bpf };
            rings.run("tests of the workspace", workspace);
            for kernel in &kernels {
                let release = &kernel.release;
                rings.run(&format!("scenarios on {release}"), || with(false).run(kernel));
                if arguments.full {
                    let name = format!("scenarios on {release} without eBPF");
                    rings.run(&name, || with(true).run(kernel));
                }
            }
        }
        Err(error) => rings.run("build", || Err(error)),
    }
    println!("== all: {} s", start.elapsed().as_secs());
    println!("{}", rings.counts);
    Ok(if rings.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn programs() -> Result<Programs> {
    Programs::with(Binaries::build_with_tests()?, &Cache::open()?)
}

#[derive(Default)]
struct Rings {
    counts: Counts,
}

impl Rings {
    /// A ring that cannot tell its counts has failed; the others run all the same.
    fn run(&mut self, name: &str, ring: impl FnOnce() -> Result<Counts>) {
        println!("== {name}");
        let start = Instant::now();
        let counts = ring().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Counts::FAILED
        });
        let outcome = if counts.failed == 0 { "good" } else { "failed" };
        println!("== {name}: {outcome}, {} s", start.elapsed().as_secs());
        self.counts += counts;
    }
}

fn formatting() -> Result<Counts> {
    check("rustfmt", cargo().args(["fmt", "--all", "--check"]), cargo().args(["fmt", "--version"]))
}

fn lints() -> Result<Counts> {
    let clippy = ["clippy", "--workspace", "--exclude", KERNEL_PROGRAMS, "--all-targets", "--keep-going"];
    check("clippy", cargo().args(clippy).args(STRICT), cargo().args(["clippy", "--version"]))
}

/// By the toolchain that builds them, for the target that they are built for.
fn lints_of_kernel_programs() -> Result<Counts> {
    let toolchain = Toolchain::find().context("the eBPF toolchain is gone")?;
    let mut clippy = toolchain.program("cargo");
    clippy.args(["clippy", "--package", KERNEL_PROGRAMS, "--release"]);
    clippy.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]).args(STRICT);
    clippy.env("RUSTC_BOOTSTRAP", "1");
    check("clippy", &mut clippy, toolchain.program("cargo").args(["clippy", "--version"]))
}

const KERNEL_PROGRAMS: &str = "probe-ebpf";
const STRICT: [&str; 3] = ["--", "--deny", "warnings"];

fn check(tool: &str, command: &mut Command, version: &mut Command) -> Result<Counts> {
    if !command::succeeds(version) {
        println!(
            "skipped: there is no {tool} for this toolchain (rustup component add {tool}, or a package)"
        );
        return Ok(Counts::SKIPPED);
    }
    command::run(command)?;
    Ok(Counts::PASSED)
}

fn workspace() -> Result<Counts> {
    let mut counting = Counting::new(io::stdout(), Counts::of_cargo_test);
    let mut tests = cargo();
    tests.args(["test", "--no-fail-fast"]).stdout(Stdio::piped());
    let cache = Cache::open()?;
    tests.env("CALIPROBE_PROMETHEUS", PROMETHEUS.obtain(&cache)?);
    tests.env("CALIPROBE_KUSTOMIZE", KUSTOMIZE.obtain(&cache)?);
    let mut tests = tests.spawn().context("cannot start cargo")?;
    if let Some(mut output) = tests.stdout.take() {
        io::copy(&mut output, &mut counting)?;
    }
    let status = tests.wait()?;
    outcome(counting.counts(), status.success())
}

/// The scenarios that are run on each kernel.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    programs: &'a Programs,
    /// Whether it is all of them, or the short set.
    full: bool,
    without_bpf: bool,
}

impl Chosen<'_> {
    fn run(self, kernel: &Kernel) -> Result<Counts> {
        let Self { programs, full, without_bpf } = self;
        let files = scenarios::files(full)?;
        let mut counting = Counting::new(io::stdout(), Counts::of_lab);
        let code =
            Scenarios { programs, files: &files, without_bpf, record: false }.run(kernel, &mut counting)?;
        outcome(counting.counts(), code == 0)
    }
}

/// A runner's counts, if they agree with its exit code.
fn outcome(counts: Option<Counts>, success: bool) -> Result<Counts> {
    let counts = counts.context("no test was run")?;
    ensure!(counts.passed + counts.failed > 0, "no test was run");
    ensure!(success || counts.failed > 0, "the tests ended before all had run");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_believed_only_where_its_counts_and_its_exit_code_agree() {
        let good = Counts { passed: 3, failed: 0, skipped: 1 };
        let bad = Counts { passed: 3, failed: 1, skipped: 0 };
        assert_eq!(outcome(Some(good), true).unwrap(), good);
        assert_eq!(outcome(Some(bad), false).unwrap(), bad);
        assert!(outcome(Some(good), false).is_err());
        assert!(outcome(None, true).is_err());
        assert!(outcome(Some(Counts::SKIPPED), true).is_err());
    }
}
