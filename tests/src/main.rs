//! The lab: the article's cluster as namespaces with a real `tunl0`, and what runs in it. Meant for a machine of
//! its own, such as the guests that `cargo xtask` boots.

mod certificates;
mod cluster;
mod counting;
mod demo;
mod docker;
mod following;
mod judge;
mod machine;
mod monitoring;
mod recording;
mod remote;
#[cfg(test)]
mod replay;
mod run;
mod scenario;
mod settings;
mod stand_in;
mod watching;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use cluster::{
    Cluster,
    topology::{self, Variant},
};
use run::Lab;
use scenario::Scenario;

/// Modules that the cluster needs; a kernel may have them built in.
const MODULES: [&str; 23] = [
    "ipip",
    "veth",
    "bridge",
    "ip_tables",
    "iptable_raw",
    "iptable_mangle",
    "iptable_nat",
    "iptable_filter",
    "nf_tables",
    "nft_compat",
    "nft_chain_nat",
    "xt_set",
    "ip_set_hash_net",
    "ip_set_hash_ip",
    "xt_addrtype",
    "cls_bpf",
    "cls_matchall",
    "cls_u32",
    "act_csum",
    "act_gact",
    "act_pedit",
    "sch_ingress",
    "sch_netem",
];

#[derive(Parser)]
#[command(name = "caliprobe-lab", about = "The article's cluster, and scenarios in it")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs scenario files, each in a cluster of its own
    Run {
        #[arg(long, value_name = "PATH")]
        caliprobe: PathBuf,
        /// A BIRD 1.6, for clusters whose nodes run one
        #[arg(long, value_name = "PATH")]
        bird: Option<PathBuf>,
        /// The folder of prometheus and promtool, for scenarios in which the nodes are scraped
        #[arg(long, value_name = "PATH")]
        prometheus: Option<PathBuf>,
        /// The kernel series, which a scenario may be limited to
        #[arg(long)]
        kernel_label: String,
        /// Ask `diagnose` to do without eBPF: it may say less, and nothing else; other commands are skipped
        #[arg(long)]
        without_bpf: bool,
        /// Print what each verdict rests on, for tests that judge it again
        #[arg(long, conflicts_with = "without_bpf")]
        record: bool,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Makes the article's black hole, finds and repairs it
    Demo {
        #[arg(long, value_name = "PATH")]
        caliprobe: PathBuf,
    },
    /// Builds the cluster and opens a shell beside it
    Shell {
        /// A BIRD 1.6 that every node is to run
        #[arg(long, value_name = "PATH")]
        bird: Option<PathBuf>,
    },
    /// Runs what other machines send, on the machine of this process
    #[command(hide = true)]
    Listen,
    /// Makes an authority in a folder, and a certificate with each node's name and address
    #[command(hide = true)]
    Certificates { folder: PathBuf },
    /// Serves networks as Docker does, on the machine of this process
    #[command(hide = true)]
    Docker {
        /// Accept connections and never answer
        #[arg(long)]
        silent: bool,
        /// The bridges of its networks
        bridges: Vec<String>,
    },
    /// Runs a command on another machine of the lab, which must listen
    #[command(hide = true)]
    On {
        machine: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    if stand_in::is_wanted() {
        return outcome(stand_in::run().map(|()| ExitCode::SUCCESS));
    }
    outcome(act(Arguments::parse().task))
}

fn outcome(result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("caliprobe-lab: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn act(task: Task) -> Result<ExitCode> {
    match task {
        Task::Run { caliprobe, bird, prometheus, kernel_label, without_bpf, record, files } => {
            let scenarios = Scenario::read_all(&files)?;
            prepare()?;
            let lab = Lab { caliprobe, bird, prometheus, kernel: kernel_label, without_bpf, record };
            let tally = lab.run(&scenarios);
            Ok(ExitCode::from(u8::from(tally.failed > 0)))
        }
        Task::Demo { caliprobe } => {
            prepare()?;
            demo::run(&caliprobe)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Listen => remote::listen().map(|()| ExitCode::SUCCESS),
        Task::Certificates { folder } => certificates::write(&folder).map(|()| ExitCode::SUCCESS),
        Task::Docker { silent, bridges } => docker::run(&bridges, silent).map(|()| ExitCode::SUCCESS),
        Task::On { machine, command } => remote::run(&machine, &command),
        Task::Shell { bird } => {
            prepare()?;
            shell(bird.as_deref())
        }
    }
}

/// Loads the modules. A missing one shows in what then fails, by name.
fn prepare() -> Result<()> {
    let mut command = Command::new("modprobe");
    command.arg("--all").args(MODULES).stderr(std::process::Stdio::null());
    command.status().context("cannot start modprobe")?;
    anyhow::ensure!(
        Path::new("/sys/module/ipip").exists() || Path::new("/proc/sys/net/ipv4/conf/tunl0").exists(),
        "this kernel has no ipip module: there is no tunl0 to build a cluster with"
    );
    Ok(())
}

fn shell(bird: Option<&Path>) -> Result<ExitCode> {
    let variant = if bird.is_some() { Variant::Bgp } else { Variant::Bird };
    let _cluster = Cluster::build(variant, bird)?;
    println!(
        "Nodes: paas-186 paas-187 paas-188 allen-laptop; the router between them: router; pods: web-188 db-188 …"
    );
    println!("  ip netns exec paas-188 ip route      names and addresses: env | grep _188");
    let mut command = Command::new("bash");
    command.envs(topology::variables()).env("PS1", "lab# ");
    let status = command.status().context("cannot start bash")?;
    Ok(ExitCode::from(u8::from(!status.success())))
}
