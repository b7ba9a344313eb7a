//! The whole command line in one place.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;

use crate::{
    daemon::{configuration, journal},
    observation::Traffic,
    probing::{
        marks::Marks,
        peer::{self, PeerCommand, PeerUrl},
    },
    serving::API_SOCKET,
    sources::{GatherOptions, prometheus::Prometheus},
};

const EXAMPLES_AND_EXIT_CODES: &str = "\
Examples:
  caliprobe diagnose 10.200.153.70
  caliprobe check
  caliprobe peers --bad
  caliprobe snapshot save before.json

Exit codes:
  0  fine, or the view ran
  1  a fault is proven: a black hole, a partial loss, a policy that denies
  2  it could not run or refused; nothing was changed
  3  it ran and cannot say; what is missing and the next place to look are printed
  4  a clean-up could not be put back as a whole; `cleanup undo` tries again";

const DIAGNOSE_EXAMPLES: &str = "\
Examples:
  caliprobe diagnose 10.200.153.70
  caliprobe diagnose kube-system/coredns-5c98db65d4-x2l7b --from host
  caliprobe diagnose 10.200.153.70 --from default/web-0 -o json
  caliprobe diagnose 10.200.153.70 --port 80
  caliprobe diagnose 10.200.153.70 --port 53 --protocol udp
  caliprobe diagnose 10.200.153.70 --peer-exec 'ssh paas-187 sudo caliprobe'
  caliprobe diagnose 10.200.153.70 --peer https://paas-187:10476   # with CALIPROBE_PEER_CA, _CERT and _KEY
  caliprobe diagnose 10.200.153.70 --from 10.200.55.237 --passive --timeout 20s";

const OBSERVE_EXAMPLES: &str = "\
`caliprobe diagnose --peer-exec` runs it on the target's node:
  caliprobe diagnose 10.200.153.70 --peer-exec 'ssh paas-187 sudo caliprobe'
  caliprobe diagnose 10.200.153.70 --peer-exec 'kubectl -n monitoring exec -i caliprobe-x2l7b -- caliprobe'";

const CHECK_EXAMPLES: &str = "\
Examples:
  caliprobe check
  caliprobe check --watch 10s
  caliprobe check --facts cluster.json -o json
  caliprobe check --root /host
  caliprobe check --input outputs/    # a folder for each node, files, an archive; - for standard input";

const PEERS_EXAMPLES: &str = "\
Examples:
  caliprobe peers
  caliprobe peers --bad --probe";

const CLUSTER_EXAMPLES: &str = "\
Examples:
  for node in $(kubectl get nodes -o name); do ssh ${node#node/} sudo caliprobe snapshot save - > nodes/${node#node/}.json; done
  caliprobe cluster nodes/
  caliprobe cluster paas-187.json paas-188.json ticket.tar.gz -o json
  caliprobe cluster --prometheus http://prometheus.monitoring:9090
  kubectl -n monitoring port-forward svc/prometheus 9090 & caliprobe cluster --prometheus http://127.0.0.1:9090";

const ROUTES_EXAMPLES: &str = "\
Examples:
  caliprobe routes
  caliprobe routes --all-tables -o json
  ip route | caliprobe routes --input -";

const VERIFY_EXAMPLES: &str = "\
Examples:
  caliprobe snapshot save before.json --window 10s --probe
  ip route del 172.18.0.0/16; ip link del br-1d6d3edc38f7
  caliprobe verify before.json --window 10s --probe
  caliprobe verify before.json --plan plan.json
  caliprobe verify before.json after.json -o json";

const BUNDLE_EXAMPLES: &str = "\
Examples:
  caliprobe bundle ticket.tar.gz
  caliprobe bundle --mask ticket.tar.gz
  ssh paas-187 sudo caliprobe bundle - > paas-187.tar.gz
  caliprobe check --input ticket.tar.gz";

const CLEANUP_PLAN_EXAMPLES: &str = "\
Examples:
  caliprobe cleanup plan
  caliprobe cleanup plan -o json > plan.json";

const CLEANUP_APPLY_EXAMPLES: &str = "\
Examples:
  caliprobe cleanup apply plan.json --dry-run
  caliprobe cleanup apply plan.json --yes
  caliprobe cleanup apply plan.json --yes --confirm-within 120s; caliprobe cleanup confirm";

const RESET_EXAMPLES: &str = "\
Examples:
  caliprobe reset plan
  caliprobe reset follow --timeout 5m";

const RESET_PLAN_EXAMPLES: &str = "\
Examples:
  caliprobe reset plan
  kubectl get nodes,pods -A -o json > facts.json; caliprobe reset plan --facts facts.json
  caliprobe reset plan --input before.json -o json";

const RESET_FOLLOW_EXAMPLES: &str = "\
Examples:
  caliprobe reset follow                   # in a second terminal, before the reset
  caliprobe reset follow --before before-reset.json --timeout 5m -o json

Exit codes: 0 all is back; 1 something is still missing at the end of --timeout; 3 the same where it was interrupted.";

const EVENTS_EXAMPLES: &str = "\
Examples:
  caliprobe events --since 2h
  caliprobe events --cause block-route-missing -f -o json";

const RUN_EXAMPLES: &str = "\
Examples:
  caliprobe run
  caliprobe run --listen 0.0.0.0:10475
  caliprobe run --print-config > /etc/caliprobe/caliprobe.toml";

const WATCH_EXAMPLES: &str = "\
Examples:
  caliprobe watch
  caliprobe watch --interval 5s";

const PREFLIGHT_EXAMPLES: &str = "\
Examples:
  caliprobe preflight
  caliprobe preflight --root /host -o json";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  caliprobe snapshot save before.json
  caliprobe snapshot save before.json --window 10s --probe
  caliprobe snapshot show before.json";

const CLEANUP_EXAMPLES: &str = "\
Examples:
  caliprobe cleanup plan -o json > plan.json
  caliprobe cleanup apply plan.json --confirm-within 120s
  caliprobe cleanup confirm
  caliprobe cleanup undo";

const DETACH_EXAMPLES: &str = "\
Examples:
  caliprobe detach
  caliprobe detach --keep-clsact -o json";

const VERSION_EXAMPLES: &str = "\
Examples:
  caliprobe version
  caliprobe version -o json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  caliprobe completions bash > /usr/share/bash-completion/completions/caliprobe
  caliprobe completions zsh > /usr/local/share/zsh/site-functions/_caliprobe
  caliprobe completions fish > ~/.config/fish/completions/caliprobe.fish";

const MANUAL_EXAMPLES: &str = "\
Examples:
  caliprobe manual /usr/local/share/man/man1
  caliprobe manual /tmp/pages; man -l /tmp/pages/caliprobe-diagnose.1";

/// The headings under which `--help` groups flags.
mod heading {
    pub const EVERYWHERE: &str = "Options of every command";
    pub const PROBES: &str = "Probes";
    pub const SIGHT: &str = "What is seen, and kept";
    pub const COUNTING: &str = "Counting";
    pub const SERVING: &str = "Serving";
    pub const REMOTE: &str = "The remote trace API";
    pub const CARE: &str = "Care";
}

/// Shows precisely where pod traffic of a Calico IPIP node is black-holed, why, and what to type.
#[derive(Debug, Parser)]
#[command(name = "caliprobe", version, after_help = EXAMPLES_AND_EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = heading::EVERYWHERE)]
pub struct Global {
    /// How to print the result; logs go to stderr either way.
    #[arg(short, long, value_enum, default_value_t, global = true, env = "CALIPROBE_OUTPUT")]
    pub output: Output,
    /// Print one line of at most 80 characters.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The folder under which the host's files lie, such as /host in a debug pod.
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    pub root: PathBuf,
    /// A pod pool, where this node does not tell it; wins over what the node tells. Repeatable.
    #[arg(long = "pool", value_name = "CIDR", global = true)]
    pub pools: Vec<Ipv4Net>,
    /// What only the datastore knows: the output of
    /// `kubectl get nodes,pods,ippools,blockaffinities -A -o json`.
    #[arg(long, value_name = "FILE", global = true)]
    pub facts: Option<PathBuf>,
    /// The unix socket of the local API, which `run` serves and the other commands ask; /run/caliprobe/api.sock
    /// without it.
    #[arg(long, value_name = "FILE", global = true, env = "CALIPROBE_API_SOCKET")]
    pub api_socket: Option<PathBuf>,
}

impl Global {
    /// Where a daemon is asked.
    pub fn api_socket(&self) -> &Path {
        self.api_socket.as_deref().unwrap_or(Path::new(API_SOCKET))
    }

    /// What is read of this node.
    pub fn sources(&self) -> GatherOptions {
        GatherOptions { root: self.root.clone(), pools: self.pools.clone(), facts: self.facts.clone() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// What is sent to a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// A handshake, reset as soon as it is accepted
    #[default]
    Tcp,
    /// A datagram; a server need not answer it
    Udp,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// This pod IP does not answer: where is the packet lost, why, what do I type?
    Diagnose(DiagnoseArgs),
    /// The other end of a diagnosis: what arrives here of its probes, and what becomes of them.
    Observe(ObserveArgs),
    /// Is this node's pod network in order? Without any traffic of its own.
    Check(CheckArgs),
    /// The other nodes: BGP session, blocks, next hop, neighbour, traffic both ways.
    Peers(PeersArgs),
    /// All nodes, worst first: held against each other by their snapshots, or by what Prometheus scraped of their daemons.
    Cluster(ClusterArgs),
    /// The route table: what each row is for, its traffic, and what is wrong with it.
    Routes(RoutesArgs),
    /// What this kernel and these privileges allow, what is lost by what they do not, and what to do.
    #[command(after_help = PREFLIGHT_EXAMPLES)]
    Preflight,
    /// Count this node's pod traffic until SIGTERM or Ctrl-C; the ledger is printed then.
    Run(RunArgs),
    /// The node's pod traffic, live: black holes, peers, blocks, pods and drops, with rates.
    Watch(WatchArgs),
    /// What happened, and when: black holes that the daemon saw open and close.
    Events(EventsArgs),
    /// Keep this node's state as it is now, to hold another against it.
    #[command(subcommand, after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotCommand),
    /// Everything that a ticket needs of this node in one archive: snapshot, check, preflight, events and logs, no secrets.
    Bundle(BundleArgs),
    /// Before and after: is everything that was reached still reached, and what changed?
    Verify(VerifyArgs),
    /// Stale routes and devices: what they are, taking them away safely, putting them back.
    #[command(subcommand, after_help = CLEANUP_EXAMPLES)]
    Cleanup(CleanupCommand),
    /// A reset of calico-node by hand: what to type in which order, and what came back when. Changes nothing.
    #[command(subcommand, after_help = RESET_EXAMPLES)]
    Reset(ResetCommand),
    /// Remove what a killed caliprobe left on kernels without TCX, and show it.
    Detach(DetachArgs),
    /// Which caliprobe this is, and which versions of its documents it speaks.
    #[command(after_help = VERSION_EXAMPLES)]
    Version,
    /// Print what a shell needs to complete the command line.
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder.
    Manual(ManualArgs),
    /// Waits for the end of its owner and removes its filters; started by `run` itself.
    #[command(hide = true)]
    Janitor(JanitorArgs),
}

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
#[command(after_help = MANUAL_EXAMPLES)]
pub struct ManualArgs {
    /// The folder; it is made where it is not there.
    pub folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct RunArgs {
    /// How often the ledger is read; with `-o json` each reading is a line. 1s without it.
    #[arg(long, value_name = "DURATION", value_parser = configuration::interval, env = "CALIPROBE_INTERVAL",
        help_heading = heading::COUNTING)]
    pub interval: Option<Duration>,
    /// A configuration file; flags and environment win over it. /etc/caliprobe/caliprobe.toml is read where it is.
    #[arg(long, value_name = "FILE", env = "CALIPROBE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print a configuration file with everything at its default, and end.
    #[arg(long)]
    pub print_config: bool,
    /// Attach nothing to pod interfaces: tunl0 and the NICs alone are counted.
    #[arg(long, help_heading = heading::COUNTING)]
    pub no_pod_hooks: bool,
    /// Leave clsact queueing disciplines behind that caliprobe made, on kernels without TCX.
    #[arg(long, help_heading = heading::COUNTING)]
    pub keep_clsact: bool,
    /// Write the process id to this file once every device is covered.
    #[arg(long, value_name = "FILE", help_heading = heading::SERVING)]
    pub ready_file: Option<PathBuf>,
    /// Where metrics and health are served; 127.0.0.1:10475 without it. Plain HTTP, unless there is a certificate.
    #[arg(long, value_name = "ADDRESS:PORT", env = "CALIPROBE_LISTEN", help_heading = heading::SERVING)]
    pub listen: Option<SocketAddr>,
    /// Serve metrics and health over TLS, with this certificate (PEM). It is read anew for each connection.
    #[arg(long, value_name = "FILE", env = "CALIPROBE_LISTEN_CERT", help_heading = heading::SERVING)]
    pub listen_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[arg(long, value_name = "FILE", env = "CALIPROBE_LISTEN_KEY", help_heading = heading::SERVING)]
    pub listen_key: Option<PathBuf>,
    /// Serve no metrics.
    #[arg(long, help_heading = heading::SERVING)]
    pub no_metrics: bool,
    /// Serve no local API.
    #[arg(long, help_heading = heading::SERVING)]
    pub no_api: bool,
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Where black holes that open and close are kept; /var/lib/caliprobe without it.
    #[arg(long, value_name = "DIR", env = "CALIPROBE_EVENTS_DIR", help_heading = heading::SERVING)]
    pub events_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = heading::REMOTE)]
pub struct RemoteArgs {
    /// Serve the remote trace API here, such as 172.30.10.187:10476; it is off without it. Other nodes have probes
    /// followed by it: one trace at a time, each of 64 probes and 10 s at most, 6 a minute for each certificate.
    #[arg(long, value_name = "ADDRESS:PORT", env = "CALIPROBE_REMOTE_LISTEN")]
    pub remote_listen: Option<SocketAddr>,
    /// The certificate by which others know this node (PEM): its name or address is in it.
    #[arg(long, value_name = "FILE", env = "CALIPROBE_REMOTE_CERT")]
    pub remote_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[arg(long, value_name = "FILE", env = "CALIPROBE_REMOTE_KEY")]
    pub remote_key: Option<PathBuf>,
    /// The authorities whose certificates may ask (PEM).
    #[arg(long, value_name = "FILE", env = "CALIPROBE_REMOTE_CA")]
    pub remote_ca: Option<PathBuf>,
    /// Show them the rules of this node too. Without it they are told hook, chain and cause of what a rule drops.
    #[arg(long)]
    pub remote_rules: bool,
}

#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArgs {
    /// How often the daemon is asked, or, where none runs, the ledger is read.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = configuration::interval)]
    pub interval: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = EVENTS_EXAMPLES)]
pub struct EventsArgs {
    /// Only what happened since so long ago, such as 2h.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// Only black holes of this cause, such as block-route-missing.
    #[arg(long, value_name = "CAUSE")]
    pub cause: Option<String>,
    /// Go on with what comes.
    #[arg(short, long)]
    pub follow: bool,
    /// Where the daemon keeps them.
    #[arg(long, value_name = "DIR", default_value = journal::FOLDER, env = "CALIPROBE_EVENTS_DIR")]
    pub events_dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = DETACH_EXAMPLES)]
pub struct DetachArgs {
    /// Leave empty clsact queueing disciplines.
    #[arg(long)]
    pub keep_clsact: bool,
}

#[derive(Debug, Args)]
pub struct JanitorArgs {
    /// The handle of the filters.
    pub handle: u32,
    /// Leave empty clsact queueing disciplines.
    #[arg(long)]
    pub keep_clsact: bool,
}

#[derive(Debug, Args)]
#[command(after_help = DIAGNOSE_EXAMPLES)]
pub struct DiagnoseArgs {
    /// The pod that does not answer: an IPv4 address, NAMESPACE/POD of this node, or a cali* interface.
    pub target: String,
    /// Where the probes start: a pod of this node by address, NAMESPACE/POD or interface, or `host`.
    /// Without it a pod of this node is chosen, and the host is tried too.
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<String>,
    /// Send nothing: judge the traffic that is there. Source and target may then be on other nodes.
    #[arg(long, requires = "from", help_heading = heading::PROBES)]
    pub passive: bool,
    /// Probe this port instead of sending ICMP echo requests alone.
    #[arg(long, value_name = "N", conflicts_with = "passive", value_parser = clap::value_parser!(u16).range(1..),
        help_heading = heading::PROBES)]
    pub port: Option<u16>,
    /// The protocol of the port.
    #[arg(long, value_enum, default_value_t, requires = "port", help_heading = heading::PROBES)]
    pub protocol: Protocol,
    /// How many probes each source sends; more where some of them are lost.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100),
        help_heading = heading::PROBES)]
    pub count: u16,
    /// The longest that it may take. An ARP time-out needs about 4 s.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = configuration::interval,
        help_heading = heading::PROBES)]
    pub timeout: Duration,
    /// Ask the target's node too: a command that runs caliprobe there, such as 'ssh NODE caliprobe'. It is split into
    /// words as by a shell, gets the arguments of `observe`, and must pass its standard input on.
    #[arg(long, value_name = "COMMAND", conflicts_with = "passive", value_parser = PeerCommand::parse,
        help_heading = heading::SIGHT)]
    pub peer_exec: Option<PeerCommand>,
    /// Ask the target's node too, by the remote trace API of the daemon there, such as `https://NODE:10476`. It is
    /// verified to be that node, by the name or address that stands here, before it is sent anything.
    #[arg(long, value_name = "URL", conflicts_with_all = ["passive", "peer_exec"], value_parser = PeerUrl::parse,
        help_heading = heading::SIGHT)]
    pub peer: Option<PeerUrl>,
    /// The authorities of the nodes' certificates (PEM), for --peer.
    #[arg(long, value_name = "FILE", env = "CALIPROBE_PEER_CA", help_heading = heading::SIGHT)]
    pub peer_ca: Option<PathBuf>,
    /// The certificate by which this side is known (PEM), for --peer.
    #[arg(long, value_name = "FILE", env = "CALIPROBE_PEER_CERT", help_heading = heading::SIGHT)]
    pub peer_cert: Option<PathBuf>,
    /// The key of that certificate (PEM), for --peer.
    #[arg(long, value_name = "FILE", env = "CALIPROBE_PEER_KEY", help_heading = heading::SIGHT)]
    pub peer_key: Option<PathBuf>,
    /// Follow the probes without eBPF, by packet sockets alone; drop reasons are then not visible.
    #[arg(long, help_heading = heading::SIGHT)]
    pub no_bpf: bool,
    /// Write all that the verdict rests on to this file, for a bug report; it holds routes, addresses and pod names.
    #[arg(long, value_name = "FILE", help_heading = heading::SIGHT)]
    pub record: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = OBSERVE_EXAMPLES)]
pub struct ObserveArgs {
    /// The probes to follow, as `diagnose --peer-exec` names them: COOKIE@TARGET/icmp, …/tcp/PORT or
    /// …/udp/PORT/SOURCES.
    #[arg(long, value_name = "ID")]
    pub flow: Marks,
    /// The longest that it watches, up to 60s; it ends earlier where its standard input does.
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = watch_length)]
    pub length: Duration,
    /// Follow the probes without eBPF, by packet sockets alone; drop reasons are then not visible.
    #[arg(long)]
    pub no_bpf: bool,
}

fn watch_length(text: &str) -> Result<Duration, String> {
    let length = configuration::interval(text)?;
    if length > peer::LONGEST_WATCH {
        return Err(format!("it is at most {} s", peer::LONGEST_WATCH.as_secs()));
    }
    Ok(length)
}

#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// Judge a saved sample, or outputs that were pasted, instead of this node.
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
    /// Watch for so long: name routes that come and go, and nodes' addresses that two machines have.
    #[arg(long, value_name = "DURATION", value_parser = configuration::interval, conflicts_with = "input")]
    pub watch: Option<Duration>,
    /// Write the sample that was judged to this file; it holds routes, addresses, names and log lines.
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub record: Option<PathBuf>,
    /// From which severity on a finding makes exit code 1.
    #[arg(long, value_enum, default_value_t)]
    pub fail_on: FailOn,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    Critical,
    #[default]
    Warning,
    Info,
    Never,
}

#[derive(Debug, Args)]
#[command(after_help = PEERS_EXAMPLES)]
pub struct PeersArgs {
    /// Send one echo request to the tunnel address of each peer, at most 50 a second.
    #[arg(long, conflicts_with = "input")]
    pub probe: bool,
    /// Show only peers with something wrong.
    #[arg(long)]
    pub bad: bool,
    /// Judge a saved sample, or outputs that were pasted, instead of this node.
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = CLUSTER_EXAMPLES)]
pub struct ClusterArgs {
    /// Snapshots, bundles, folders of pasted outputs, one for each node, folders or archives of these: the nodes are held
    /// against each other, and nobody is asked.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The Prometheus that scrapes the nodes, with the rules of deploy/prometheus; not asked where a PATH is given.
    #[arg(
        long,
        value_name = "URL",
        value_parser = Prometheus::parse,
        env = "CALIPROBE_PROMETHEUS_URL",
        required_unless_present = "paths"
    )]
    pub prometheus: Option<Prometheus>,
}

#[derive(Debug, Args)]
#[command(after_help = ROUTES_EXAMPLES)]
pub struct RoutesArgs {
    /// Show every table, not the main one alone. The table of local addresses is left out either way.
    #[arg(long)]
    pub all_tables: bool,
    /// Judge a saved sample, or outputs that were pasted, instead of this node.
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Write a snapshot. It holds routes, addresses, rules, names and log lines of this node.
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Save(SnapshotSaveArgs),
    /// Say what a snapshot holds.
    Show {
        /// The snapshot; - for standard input.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct SnapshotSaveArgs {
    /// A file that is not there yet; - for standard output.
    pub file: PathBuf,
    #[command(flatten)]
    pub watched: WatchedArgs,
}

/// What of a node takes time to see, or packets.
#[derive(Debug, Args)]
pub struct WatchedArgs {
    /// Count the pods' traffic for so long too, and what of it is lost, by the running daemon or by programs of its own.
    #[arg(long, value_name = "DURATION", value_parser = window)]
    pub window: Option<Duration>,
    /// Send echo requests to every pod of this node and to the tunnel's end of every other node, at most 50 a second.
    #[arg(long)]
    pub probe: bool,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = configuration::interval(text)?;
    if window < Duration::from_secs(2) {
        return Err("it is at least 2s: what varies shows by several readings".to_owned());
    }
    Ok(window)
}

#[derive(Debug, Args)]
#[command(after_help = BUNDLE_EXAMPLES)]
pub struct BundleArgs {
    /// A file that is not there yet, such as ticket.tar.gz; - for standard output.
    pub file: PathBuf,
    /// Replace addresses and names, each always by the same, so that the bundle is judged as before: networks keep their
    /// addresses, private ones stay private. Logs are left out.
    #[arg(long)]
    pub mask: bool,
    /// A file with any secret of at least 16 bytes: bundles that are masked with the same fit together.
    #[arg(long, value_name = "FILE", requires = "mask")]
    pub mask_key: Option<PathBuf>,
    /// Where the daemon keeps its events.
    #[arg(long, value_name = "DIR", default_value = journal::FOLDER, env = "CALIPROBE_EVENTS_DIR")]
    pub events_dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct VerifyArgs {
    /// A snapshot from before.
    pub before: PathBuf,
    /// A later one; without it, this node as it is now.
    #[arg(conflicts_with_all = ["window", "probe"])]
    pub after: Option<PathBuf>,
    /// A clean-up plan: what it takes away is meant, and must be gone.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub watched: WatchedArgs,
}

#[derive(Debug, Subcommand)]
pub enum CleanupCommand {
    /// Say what is stale, on what proof, and what would remove it; changes nothing. `-o json` prints the plan itself.
    Plan(CleanupPlanArgs),
    /// Carry a plan out; everything is put back where something gets worse.
    Apply(CleanupApplyArgs),
    /// Keep what `apply --confirm-within` did.
    Confirm,
    /// Put back what the last clean-up took away.
    Undo,
    /// Puts back what nobody confirms; started by `apply` itself.
    #[command(hide = true)]
    Guard,
}

#[derive(Debug, Args)]
#[command(after_help = CLEANUP_PLAN_EXAMPLES)]
pub struct CleanupPlanArgs {
    /// Judge a snapshot instead of this node.
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = CLEANUP_APPLY_EXAMPLES)]
pub struct CleanupApplyArgs {
    /// The plan; - for standard input.
    pub plan: PathBuf,
    /// Do not ask at the terminal.
    #[arg(long)]
    pub yes: bool,
    /// Print the steps and change nothing.
    #[arg(long, help_heading = heading::CARE)]
    pub dry_run: bool,
    /// Take steps that cannot be undone too: a veth that is deleted is gone, with its other end.
    #[arg(long, help_heading = heading::CARE)]
    pub include_irreversible: bool,
    /// How long the node is watched after each step.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = configuration::interval,
        help_heading = heading::CARE)]
    pub settle: Duration,
    /// Put everything back after so long, unless `cleanup confirm` comes: for when the clean-up may cut the connection.
    #[arg(long, value_name = "DURATION", value_parser = configuration::interval, help_heading = heading::CARE)]
    pub confirm_within: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum ResetCommand {
    /// Say whether a reset would mend anything here, what it costs, and each command in order, with what it risks.
    Plan(ResetPlanArgs),
    /// Watch a reset: each route and session as it goes and as it returns, and how long each block was dark. Ends when
    /// all is back.
    Follow(ResetFollowArgs),
}

#[derive(Debug, Args)]
#[command(after_help = RESET_PLAN_EXAMPLES)]
pub struct ResetPlanArgs {
    /// Judge a snapshot instead of this node.
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = RESET_FOLLOW_EXAMPLES)]
pub struct ResetFollowArgs {
    /// A snapshot of what must be there again; without it, what is there now.
    #[arg(long, value_name = "FILE")]
    pub before: Option<PathBuf>,
    /// End after so long, and say what is still missing; without it, it waits for as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = configuration::interval)]
    pub timeout: Option<Duration>,
}

/// What a person may name as the source or target of a diagnosis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointName {
    Host,
    Address(Ipv4Addr),
    Pod { namespace: String, name: String },
    Interface(String),
}

impl DiagnoseArgs {
    /// What the probes are to be made of.
    pub fn traffic(&self) -> Traffic {
        match (self.port, self.protocol) {
            (None, _) => Traffic::Echo,
            (Some(port), Protocol::Tcp) => Traffic::Tcp(port),
            (Some(port), Protocol::Udp) => Traffic::Udp(port),
        }
    }
}

impl EndpointName {
    /// Reads the name; the error says what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if let Some((namespace, name)) = text.split_once('/')
            && is_kubernetes_name(namespace)
            && is_kubernetes_name(name)
        {
            return Ok(Self::Pod { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        if text.starts_with("cali") && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self::Interface(text.to_owned()));
        }
        Err(unreadable_endpoint(text))
    }
}

fn unreadable_endpoint(text: &str) -> String {
    let shown: String = text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    let hint = if text.parse::<std::net::Ipv6Addr>().is_ok() {
        "is an IPv6 address; caliprobe follows IPv4 only"
    } else if text.parse::<Ipv4Net>().is_ok() {
        "is a network; give one address of it"
    } else {
        "is neither an IPv4 address, nor NAMESPACE/POD, nor a cali* interface, nor `host`"
    };
    format!("`{shown}` {hint}")
}

/// RFC 1123 names, as Kubernetes demands them of namespaces and pods.
fn is_kubernetes_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        let pod = EndpointName::Pod { namespace: "default".to_owned(), name: "web-0".to_owned() };
        assert_eq!(EndpointName::parse("host"), Ok(EndpointName::Host));
        assert_eq!(EndpointName::parse("10.0.0.1"), Ok(EndpointName::Address(Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(EndpointName::parse("default/web-0"), Ok(pod));
        assert_eq!(
            EndpointName::parse("cali0d7763386da"),
            Ok(EndpointName::Interface("cali0d7763386da".to_owned()))
        );
    }

    #[test]
    fn an_unreadable_endpoint_says_what_it_is() {
        for (text, expected) in [
            ("fe80::1", "IPv6"),
            ("10.0.0.0/24", "is a network"),
            ("10.0.0.256", "neither an IPv4 address"),
            ("", "neither an IPv4 address"),
            ("Default/web", "neither an IPv4 address"),
            ("\u{1b}[31m", "neither an IPv4 address"),
        ] {
            let error = EndpointName::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.chars().any(char::is_control));
        }
    }
}
