//! Parses, dispatches, and turns the outcome into an exit code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    panic,
    process::ExitCode,
};

use caliprobe::{
    cli::{Cli, Command, Output},
    commands,
    exit::Exit,
    kernel::janitor,
    report,
};
use clap::Parser as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    tell_panics_in_a_line();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    start_logging(&cli.command);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(cli.global.output, &format!("cannot start: {error}")),
    };
    match runtime.block_on(dispatch(&cli)) {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) && nobody_reads() => Exit::Fine.into(),
        Err(error) => failed(cli.global.output, &format!("{error:#}")),
    }
}

async fn dispatch(cli: &Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Check(args) => commands::check::run(args, &cli.global).await,
        Command::Peers(args) => commands::peers::run(args, &cli.global).await,
        Command::Cluster(args) => commands::cluster::run(args, &cli.global).await,
        Command::Diagnose(args) => Box::pin(commands::diagnose::run(args, &cli.global)).await,
        Command::Observe(args) => commands::observe::run(args, &cli.global).await,
        Command::Run(args) => commands::run::run(args, &cli.global).await,
        Command::Watch(args) => commands::watch::run(args, &cli.global).await,
        Command::Events(args) => commands::events::run(args, &cli.global).await,
        Command::Detach(args) => commands::detach::run(args, &cli.global),
        Command::Janitor(args) => janitor::serve(args.handle, args.keep_clsact).map(|()| Exit::Fine),
        Command::Preflight => commands::preflight::run(&cli.global).await,
        Command::Snapshot(args) => commands::snapshot::run(args, &cli.global).await,
        Command::Bundle(args) => commands::bundle::run(args, &cli.global).await,
        Command::Verify(args) => commands::verify::run(args, &cli.global).await,
        Command::Cleanup(command) => Box::pin(commands::cleanup::run(command, &cli.global)).await,
        Command::Version => commands::version::run(&cli.global),
        Command::Completions(args) => commands::completions::run(args),
        Command::Manual(args) => commands::manual::run(args),
        Command::Reset(command) => commands::reset::run(command, &cli.global).await,
        Command::Routes(args) => commands::routes::run(args, &cli.global).await,
    }
}

/// Help and version are results; anything else is an error of the command line.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args()
        .any(|argument| argument == "json" || argument.ends_with("=json") || argument == "-ojson");
    if error.use_stderr() && wants_json {
        let message = error.render().to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return failed(Output::Json, &first);
    }
    let _ = error.print();
    if error.use_stderr() { Exit::Failed.into() } else { Exit::Fine.into() }
}

fn failed(output: Output, message: &str) -> ExitCode {
    if output == Output::Json {
        let _ = writeln!(io::stdout(), "{}", report::error::document(message));
    }
    let _ = writeln!(io::stderr(), "caliprobe: {message}");
    Exit::Failed.into()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether whoever read standard output has gone, as `head` does. A pipe to another program may break, too.
fn nobody_reads() -> bool {
    let output = io::stdout();
    let mut output = [PollFd::new(output.as_fd(), PollFlags::empty())];
    // A pipe without a reader is in the state of an error.
    poll(&mut output, PollTimeout::ZERO).is_ok()
        && output[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// A panic is a fault of this program: a line that says where, and no stack trace but for who asked for it.
fn tell_panics_in_a_line() {
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|wanted| wanted != "0") {
        return;
    }
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no reason is known");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let _ = writeln!(
            io::stderr(),
            "caliprobe: it failed by a mistake of its own{place}: {what}\n\
             Please report this line, with what `caliprobe version` prints."
        );
    }));
}

/// What aya says of the memory limit before Linux 5.11 comes back as the error of whatever needs the memory.
const LOGGED: &str = "warn,aya::sys::bpf=error";

/// To stderr, but not into the midst of a screen.
fn start_logging(command: &Command) {
    if matches!(command, Command::Watch(_)) && io::stderr().is_terminal() {
        return;
    }
    let filter = EnvFilter::try_from_env("CALIPROBE_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        )
        .with_target(false)
        .init();
}
