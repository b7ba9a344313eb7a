//! What a developer of caliprobe types: `cargo xtask COMMAND`.

use std::{ffi::OsString, io, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    cache::Cache,
    cases::CasesArguments,
    demo::DemoArguments,
    dist::DistArguments,
    fuzz::FuzzArguments,
    guest::Guest,
    kernels::{Kernel, Selection, Series},
    lab::LabArguments,
    table::TableArguments,
    test::TestArguments,
};

mod bench;
mod binaries;
mod bird;
mod cache;
mod cases;
mod command;
mod counts;
mod debian;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod guest;
mod kernels;
mod lab;
mod recordings;
mod results;
mod scenarios;
mod setup;
mod table;
mod test;
#[path = "../../probe/build/tools.rs"]
mod tools;
mod unpacked;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, lab, demo, tests and benchmarks of caliprobe")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Finds what it takes to build and to run the lab, and installs what is missing
    Setup,
    /// Shows a cluster that works, breaks and is repaired, and what caliprobe says of it
    Demo(DemoArguments),
    /// Checks formatting and lints, and runs all tests and all scenarios
    Test(TestArguments),
    /// Judges outputs that people showed, and prints case by case what was expected and what was found
    Cases(CasesArguments),
    /// Writes what is generated from the code: docs/metrics.md, and the outputs that pages show
    Docs,
    /// Makes what is handed out, into target/dist: a static program, an archive, packages, an image
    Dist(DistArguments),
    /// Measures what each kernel program costs over an empty one
    Bench,
    /// Reads and judges snapshots and plans that are changed at random
    Fuzz(FuzzArguments),
    /// Runs scenario files in guests, or opens a shell in the lab's cluster
    Lab(LabArguments),
    /// Shows every code, where its fault can lie, and what the lab said of it on each kernel
    Table(TableArguments),
    /// Runs one command in a guest that has this machine's files, and returns its exit code
    Guest {
        #[arg(long = "kernel", value_name = "SERIES")]
        kernels: Vec<Selection>,
        /// Seconds after which the guest is taken down
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        time_limit: u64,
        /// Give the command this terminal
        #[arg(long)]
        terminal: bool,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => setup::run(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Cases(arguments) => cases::run(&arguments),
        Task::Docs => docs::run(),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Bench => bench::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Lab(arguments) => lab::run(&arguments),
        Task::Table(arguments) => table::run(&arguments),
        Task::Guest { kernels, time_limit, terminal, command } => {
            let cache = Cache::open()?;
            let mut worst = 0;
            for series in kernels::selected(&kernels, &[Series::V6_12]) {
                let kernel = Kernel::obtain(&cache, series)?;
                let guest = Guest { kernel: &kernel, time_limit: Duration::from_secs(time_limit) };
                worst = worst.max(if terminal {
                    guest.run_on_terminal(&command)?
                } else {
                    guest.run(&command, &mut io::stdout())?
                });
            }
            Ok(lab::exit_code(worst))
        }
    }
}
