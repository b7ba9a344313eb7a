//! The lab in guests: scenario files, or a shell in its cluster.

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    binaries::Binaries,
    bird,
    cache::Cache,
    guest::Guest,
    kernels::{self, Kernel, Selection, Series},
    recordings::Recordings,
    results::{self, Reading},
    scenarios, table,
    unpacked::PROMETHEUS,
};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct LabArguments {
    /// 5.10, 6.1, 6.12, newest or all; may be given several times [default: 6.12]
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<Selection>,
    /// Open a shell in a guest, with the lab's cluster built
    #[arg(long, conflicts_with_all = ["files", "list"])]
    shell: bool,
    /// Name the scenarios that come with caliprobe
    #[arg(long, conflicts_with = "files")]
    list: bool,
    /// Ask `diagnose` to do without eBPF: it may say less, and nothing else; other scenarios are skipped
    #[arg(long, conflicts_with_all = ["shell", "list"])]
    without_bpf: bool,
    /// Keep what each verdict rests on in tests/recorded, for the tests that judge it again
    #[arg(long, conflicts_with_all = ["shell", "list", "without_bpf"])]
    record: bool,
    /// Scenario files, from anywhere; all that come with caliprobe without any
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A guest under emulation takes a while for a scenario, and a kernel's whole set is one guest.
const BOOT: Duration = Duration::from_mins(1);
const SCENARIO: Duration = Duration::from_mins(1);
/// For any number of scenarios: a guest that hangs must not take a whole test run with it.
const GUEST: Duration = Duration::from_mins(45);
const SHELL: Duration = Duration::from_hours(24);

pub fn run(arguments: &LabArguments) -> Result<ExitCode> {
    let series = kernels::selected(&arguments.kernels, &[Series::V6_12]);
    if arguments.list {
        return list();
    }
    let cache = Cache::open()?;
    let programs = Programs::with(Binaries::build()?, &cache)?;
    if arguments.shell {
        ensure!(series.len() == 1, "a shell is in one guest: name one kernel");
        let kernel = Kernel::obtain(&cache, series[0])?;
        let command = [programs.binaries.lab.into(), "shell".into(), "--bird".into(), programs.bird.into()];
        let code = Guest { kernel: &kernel, time_limit: SHELL }.run_on_terminal(&command)?;
        return Ok(exit_code(code));
    }
    let files = if arguments.files.is_empty() { scenarios::files(true)? } else { arguments.files.clone() };
    let LabArguments { without_bpf, record, .. } = *arguments;
    let scenarios = Scenarios { programs: &programs, files: &files, without_bpf, record };
    let mut output = Recordings::of_this_checkout(io::stdout());
    let mut worst = 0;
    for series in series {
        let kernel = Kernel::obtain(&cache, series)?;
        worst = worst.max(scenarios.run(&kernel, &mut output)?);
    }
    Ok(exit_code(worst))
}

/// What runs in a guest.
#[derive(Debug)]
pub struct Programs {
    pub binaries: Binaries,
    pub bird: PathBuf,
    /// The folder of prometheus and promtool.
    pub prometheus: PathBuf,
}

impl Programs {
    pub fn with(binaries: Binaries, cache: &Cache) -> Result<Self> {
        Ok(Self { binaries, bird: bird::obtain(cache)?, prometheus: PROMETHEUS.obtain(cache)? })
    }
}

/// Scenario files, and what they are run with.
#[derive(Clone, Copy, Debug)]
pub struct Scenarios<'a> {
    pub programs: &'a Programs,
    pub files: &'a [PathBuf],
    /// Whether `diagnose` is asked to do without eBPF.
    pub without_bpf: bool,
    /// Whether what each verdict rests on is printed.
    pub record: bool,
}

impl Scenarios<'_> {
    /// Runs them in one guest and keeps their results; the exit code is that of `caliprobe-lab run`.
    pub fn run(self, kernel: &Kernel, stdout: &mut (dyn io::Write + Send)) -> Result<i32> {
        let mut reading = Reading::new(stdout);
        let time_limit = GUEST.min(BOOT + SCENARIO * scenarios::minutes(self.files));
        let code = Guest { kernel, time_limit }.run(&self.command(kernel)?, &mut reading);
        let known = scenarios::all()?;
        let results = reading.results(&known.iter().map(|scenario| scenario.name.as_str()));
        results::keep(&table::label(kernel.series.name(), self.without_bpf), results)?;
        code
    }

    fn command(self, kernel: &Kernel) -> Result<Vec<OsString>> {
        let Programs { binaries, bird, prometheus } = self.programs;
        let mut command: Vec<OsString> = vec![binaries.lab.clone().into(), "run".into()];
        command.extend(["--caliprobe".into(), binaries.caliprobe.clone().into()]);
        command.extend(["--bird".into(), bird.clone().into()]);
        command.extend(["--prometheus".into(), prometheus.clone().into()]);
        command.extend(["--kernel-label".into(), kernel.series.name().into()]);
        if self.without_bpf {
            command.push("--without-bpf".into());
        }
        if self.record {
            command.push("--record".into());
        }
        for file in self.files {
            let file =
                file.canonicalize().with_context(|| format!("no such scenario: {}", file.display()))?;
            command.push(file.into());
        }
        Ok(command)
    }
}

pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn list() -> Result<ExitCode> {
    for file in scenarios::files(true)? {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}
