//! `caliprobe run`: counts the node's pod traffic, and serves what it knows, until it is told to stop.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};

use super::{preflight, remote::NodeObserver};
use crate::{
    cli::{Global, Output, RemoteArgs, RunArgs},
    daemon::{
        self, Adjustable, Owner, Scope, Settings,
        configuration::{Choice, Configuration, TEMPLATE},
        journal,
    },
    exit::Exit,
    kernel::{in_a_line, janitor},
    model::{Model, readiness::CommandName},
    report::ledger,
    serving::{self, API_SOCKET, METRICS_ADDRESS},
    sources::{self, packet_socket},
    state::State,
    tls::Identity,
};

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, and prints the ledger then.
pub async fn run(args: &RunArgs, global: &Global) -> anyhow::Result<Exit> {
    if args.print_config {
        io::stdout().lock().write_all(TEMPLATE.as_bytes())?;
        return Ok(Exit::Fine);
    }
    let configuration = Configuration::read(args.config.as_deref())?;
    let settings = settings(args, global, configuration)?;
    for filter in janitor::sweep(settings.scope.keep_clsact)? {
        tracing::warn!("removed what a killed caliprobe left: {}", ledger::filter_words(&filter));
    }
    let last = match daemon::run(&settings, &mut Command { args, global }, daemon::stop_signal()?).await {
        Ok(last) => last,
        Err(error) => return Err(explained(error, global).await),
    };
    match global.output {
        Output::Json => print_line(&last)?,
        Output::Text => write!(io::stdout().lock(), "{}", ledger::text(&last.reading))?,
    }
    Ok(Exit::Fine)
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// What the kernel forbids is said as `preflight` says it: what is lacking, and what to do.
pub(super) async fn explained(error: anyhow::Error, global: &Global) -> anyhow::Error {
    if !is_forbidden(&error) {
        return error;
    }
    let Ok(sample) = sources::gather(&global.sources()).await else { return error };
    let assessment = preflight::assess_here(&Model::new(&sample), &global.root);
    match assessment.refusal(CommandName::Run) {
        Some(refusal) => anyhow!("{refusal} ({})", in_a_line(&error)),
        None => error,
    }
}

/// The command line, which wins over the file whenever that is read.
struct Command<'a> {
    args: &'a RunArgs,
    global: &'a Global,
}

impl Owner for Command<'_> {
    fn hear(&mut self, state: &State) -> anyhow::Result<()> {
        if self.global.output == Output::Json { print_line(state) } else { Ok(()) }
    }

    fn reload(&mut self) -> anyhow::Result<Adjustable> {
        let configuration = Configuration::read(self.args.config.as_deref())?;
        let settings = settings(self.args, self.global, configuration)?;
        Ok(Adjustable { interval: settings.interval, pools: settings.scope.sources.pools })
    }
}

/// Flags and environment, then the file, then what is usual.
fn settings(args: &RunArgs, global: &Global, file: Configuration) -> anyhow::Result<Settings> {
    let mut sources = global.sources();
    if sources.pools.is_empty() {
        sources.pools = file.pools.unwrap_or_default();
    }
    let usual_address = METRICS_ADDRESS.parse().context("no address")?;
    let listen = args.listen.map(Choice::This).or(file.listen).unwrap_or(Choice::This(usual_address));
    let usual_socket = Choice::This(PathBuf::from(API_SOCKET));
    let socket = global.api_socket.clone().map(Choice::This).or(file.api_socket).unwrap_or(usual_socket);
    let events = args.events_dir.clone().or(file.events_dir);
    let files = (
        either(args.listen_cert.as_ref(), file.listen_cert),
        either(args.listen_key.as_ref(), file.listen_key),
    );
    let remote = RemoteFile {
        listen: file.remote_listen,
        cert: file.remote_cert,
        key: file.remote_key,
        ca: file.remote_ca,
        rules: file.remote_rules,
    };
    Ok(Settings {
        scope: Scope {
            sources,
            with_pods: !args.no_pod_hooks && file.pod_hooks.unwrap_or(true),
            keep_clsact: args.keep_clsact || file.keep_clsact.unwrap_or(false),
        },
        interval: args.interval.or(file.interval).unwrap_or(INTERVAL),
        ready_file: args.ready_file.clone(),
        serving: serving::Settings {
            api: socket.this().filter(|_| !args.no_api),
            metrics: listen.this().filter(|_| !args.no_metrics),
            metrics_identity: identity(files, "listen")?,
            remote: self::remote(&args.remote, remote, global)?,
            ..serving::Settings::default()
        },
        events: Some(events.unwrap_or_else(|| PathBuf::from(journal::FOLDER))),
    })
}

/// What the file says of the remote trace API.
struct RemoteFile {
    listen: Option<Choice<SocketAddr>>,
    cert: Option<Choice<PathBuf>>,
    key: Option<Choice<PathBuf>>,
    ca: Option<Choice<PathBuf>>,
    rules: Option<bool>,
}

fn remote(args: &RemoteArgs, file: RemoteFile, global: &Global) -> anyhow::Result<Option<serving::Remote>> {
    let Some(address) = either(args.remote_listen.as_ref(), file.listen) else { return Ok(None) };
    let files = (either(args.remote_cert.as_ref(), file.cert), either(args.remote_key.as_ref(), file.key));
    let lacking = "the remote trace API needs --remote-cert, --remote-key and --remote-ca: who asks shows a certificate";
    let identity = identity(files, "remote")?.context(lacking)?;
    let clients = either(args.remote_ca.as_ref(), file.ca).context(lacking)?;
    packet_socket::open().context("the remote trace API follows packets by packet sockets")?;
    let shows_rules = args.remote_rules || file.rules.unwrap_or(false);
    let observer = Arc::new(NodeObserver { global: global.clone(), shows_rules });
    Ok(Some(serving::Remote { address, identity, clients, observer }))
}

/// A flag or its environment, else what the file has.
fn either<T: Clone>(flag: Option<&T>, file: Option<Choice<T>>) -> Option<T> {
    flag.cloned().or_else(|| file.and_then(Choice::this))
}

fn identity(files: (Option<PathBuf>, Option<PathBuf>), of: &str) -> anyhow::Result<Option<Identity>> {
    match files {
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
        (None, None) => Ok(None),
        _ => Err(anyhow!("--{of}-cert and --{of}-key belong together: one of them is not there")),
    }
}

fn print_line(state: &State) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&ledger::Line::of(state))?)?;
    Ok(out.flush()?)
}
