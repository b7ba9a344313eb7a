//! What the facts of `preflight` mean for each command: whether it can run, what it cannot do, and what to do.

use std::fmt;

use serde::Serialize;

use super::{
    Model, is_pod_link,
    layout::{planned_memory, stride},
};
use crate::{
    readiness::{Attachment, DropDetail, KernelSettings, Readiness},
    sample::Fact,
};

/// The commands that need more than files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandName {
    Diagnose,
    Run,
    Routes,
}

impl CommandName {
    const ALL: [Self; 3] = [Self::Diagnose, Self::Run, Self::Routes];
}

impl fmt::Display for CommandName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Diagnose => "diagnose",
            Self::Run => "run",
            Self::Routes => "routes",
        })
    }
}

/// How well something can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Ready,
    Degraded,
    CannotRun,
}

/// What a command loses by what a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Consequence {
    pub command: CommandName,
    pub standing: Standing,
    pub text: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    /// Absent where it was not tried.
    pub standing: Option<Standing>,
    /// What was found, or why it could not be.
    pub found: String,
    pub consequences: Vec<Consequence>,
    /// What to do, where anything is lost.
    pub advice: Option<String>,
}

/// A capability that a command needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    pub capability: &'static str,
    pub held: bool,
    pub commands: Vec<CommandName>,
    pub purpose: &'static str,
}

/// One command, with all that it loses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandStanding {
    pub command: CommandName,
    pub standing: Standing,
    pub reasons: Vec<String>,
}

/// Kernel memory that the ledger would take on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub cpus: usize,
    pub slots: u32,
    pub bytes: u64,
    pub pods: usize,
    pub blocks: usize,
    pub peers: usize,
}

/// The whole judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assessment {
    pub standing: Standing,
    pub commands: Vec<CommandStanding>,
    pub checks: Vec<Check>,
    /// Absent where the capabilities could not be read.
    pub capabilities: Option<Vec<Need>>,
    /// Absent where the number of CPUs could not be read.
    pub memory: Option<Memory>,
}

impl Assessment {
    /// Why a command cannot run, and what to do; `None` where it can.
    #[must_use]
    pub fn refusal(&self, command: CommandName) -> Option<String> {
        let stops = |consequence: &&Consequence| {
            consequence.command == command && consequence.standing == Standing::CannotRun
        };
        let (check, consequence) =
            self.checks.iter().find_map(|check| Some((check, check.consequences.iter().find(stops)?)))?;
        let mut text = format!("`{command}` cannot run, {}", consequence.text);
        let lacking: Vec<String> = self
            .capabilities
            .iter()
            .flatten()
            .filter(|need| !need.held && need.commands.contains(&command))
            .map(|need| format!("{} ({})", need.capability, need.purpose))
            .collect();
        if !lacking.is_empty() {
            text = format!("{text}: it lacks {}", lacking.join(", "));
        }
        Some(match &check.advice {
            Some(advice) => format!("{text}; {advice}"),
            None => text,
        })
    }
}

/// Judges the facts.
#[must_use]
pub fn assess(model: &Model<'_>, readiness: &Readiness) -> Assessment {
    let checks: Vec<Check> = [
        packet_sockets(readiness),
        pods(readiness),
        system_call(readiness),
        programs(readiness),
        attachment(readiness),
        drops(readiness),
        symbols(readiness),
        speed(readiness),
        tunnel(model, readiness),
        sets(model),
        pod_names(model),
    ]
    .into();
    let commands: Vec<CommandStanding> =
        CommandName::ALL.into_iter().map(|command| command_standing(command, &checks)).collect();
    Assessment {
        standing: commands.iter().map(|command| command.standing).max().unwrap_or(Standing::Ready),
        commands,
        checks,
        capabilities: needs(readiness),
        memory: readiness.kernel.cpus.known().map(|cpus| memory(model, *cpus)),
    }
}

fn command_standing(command: CommandName, checks: &[Check]) -> CommandStanding {
    let mut lost: Vec<&Consequence> = checks
        .iter()
        .flat_map(|check| &check.consequences)
        .filter(|consequence| consequence.command == command)
        .collect();
    lost.sort_by_key(|consequence| std::cmp::Reverse(consequence.standing));
    CommandStanding {
        command,
        standing: lost.first().map_or(Standing::Ready, |consequence| consequence.standing),
        reasons: lost.into_iter().map(|consequence| consequence.text.clone()).collect(),
    }
}

impl Check {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            standing: Some(Standing::Ready),
            found: found.into(),
            consequences: Vec::new(),
            advice: None,
        }
    }

    fn costs(mut self, command: CommandName, standing: Standing, text: impl Into<String>) -> Self {
        self.consequences.push(Consequence { command, standing, text: text.into() });
        self.standing = self.standing.max(Some(standing));
        self
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// What another check found makes this one pointless.
    fn not_tried(name: &'static str) -> Self {
        Self { standing: None, ..Self::fine(name, "not tried without programs") }
    }

    /// The kernel takes no program of ours.
    fn without_programs(self, readiness: &Readiness) -> Self {
        let check =
            self.costs(CommandName::Run, Standing::CannotRun, "the kernel refuses its programs").costs(
                CommandName::Diagnose,
                Standing::Degraded,
                "it follows its probes by packet sockets, and drops are not visible",
            );
        Self { advice: refusal(readiness), ..check }
    }
}

fn packet_sockets(readiness: &Readiness) -> Check {
    let name = "packet sockets";
    match &readiness.privileges.packet_sockets {
        Fact::Known(()) => Check::fine(name, "open"),
        Fact::Absent(why) => Check::fine(name, why)
            .costs(CommandName::Diagnose, Standing::CannotRun, "it can neither send its probes nor see them")
            .advise("run as root, or with CAP_NET_RAW"),
    }
}

fn pods(readiness: &Readiness) -> Check {
    let name = "pods";
    match &readiness.privileges.pods_entered {
        Fact::Known(0) => Check::fine(name, "no pod is here; network namespaces can be entered"),
        Fact::Known(count) => Check::fine(name, format!("entered the network namespaces of {count}")),
        Fact::Absent(why) => Check::fine(name, why)
            .costs(
                CommandName::Diagnose,
                Standing::Degraded,
                "no probe from inside a pod, only --from host and --passive",
            )
            .costs(CommandName::Routes, Standing::Degraded, "a lost or wrong pod route cannot be proven")
            .advise("run as root in the host's PID namespace, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE"),
    }
}

fn system_call(readiness: &Readiness) -> Check {
    let name = "bpf()";
    let KernelSettings { unprivileged_bpf_disabled, lockdown, .. } = &readiness.settings;
    let mut settings = Vec::new();
    settings.extend(
        unprivileged_bpf_disabled.known().map(|value| format!("kernel.unprivileged_bpf_disabled = {value}")),
    );
    settings.extend(lockdown.known().map(|level| format!("lockdown {level}")));
    match &readiness.kernel.ring_buffer {
        Fact::Known(()) => Check::fine(name, [vec!["permitted".to_owned()], settings].concat().join(", ")),
        Fact::Absent(why) => {
            Check::fine(name, [vec![why.clone()], settings].concat().join(", ")).without_programs(readiness)
        }
    }
}

fn programs(readiness: &Readiness) -> Check {
    let name = "programs";
    let kernel = &readiness.kernel;
    if kernel.ring_buffer.absent().is_some() {
        return Check::not_tried(name);
    }
    match [&kernel.maps, &kernel.taps, &kernel.classifiers].into_iter().find_map(Fact::absent) {
        Some(why) => Check::fine(name, why).without_programs(readiness),
        None => Check::fine(name, "maps are made, classifiers and filters load"),
    }
}

/// The likely reason for which the kernel refuses programs.
fn refusal(readiness: &Readiness) -> Option<String> {
    let privileges = &readiness.privileges;
    let lacks = |name| !holds(readiness, name).unwrap_or(true);
    if lacks("CAP_BPF") || lacks("CAP_NET_ADMIN") || lacks("CAP_PERFMON") {
        return Some("run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN".to_owned());
    }
    if privileges.initial_user_namespace.known() == Some(&false) {
        return Some("this is a user namespace of its own, whose root the kernel does not trust with programs: run outside".to_owned());
    }
    if let Some(Some(bytes)) = privileges.locked_memory.known() {
        return Some(format!(
            "RLIMIT_MEMLOCK is {bytes} bytes, and kernels before 5.11 count maps against it: run with CAP_SYS_RESOURCE, or after `ulimit -l unlimited`"
        ));
    }
    let lockdown = readiness.settings.lockdown.known()?;
    (lockdown != "none").then(|| format!("kernel lockdown is in force ({lockdown})"))
}

fn attachment(readiness: &Readiness) -> Check {
    let name = "attaching";
    match &readiness.kernel.attachment {
        Fact::Known(Attachment::Tcx) => Check::fine(name, "by TCX: its links vanish with the process"),
        Fact::Known(Attachment::Clsact) => Check::fine(
            name,
            "by clsact: after kill -9 a helper removes the filters; `caliprobe detach` does where it was killed too",
        ),
        Fact::Absent(_) if readiness.kernel.classifiers.absent().is_some() => Check::not_tried(name),
        Fact::Absent(why) => Check::fine(name, why)
            .costs(CommandName::Run, Standing::Degraded, "whether its programs can be attached is not known")
            .advise("run as root in the initial user namespace"),
    }
}

fn drops(readiness: &Readiness) -> Check {
    let name = "drops";
    let kernel = &readiness.kernel;
    if kernel.maps.absent().is_some() {
        return Check::not_tried(name);
    }
    let unseen = "drops are not visible";
    let (why, advice) = match (&kernel.types, &kernel.drops) {
        (Fact::Known(DropDetail::Reason), Fact::Known(())) => {
            return Check::fine(name, "with the kernel's reason");
        }
        (Fact::Known(DropDetail::Place), Fact::Known(())) => {
            let text = "drops have a place, but no reason";
            return Check::fine(name, "this kernel's kfree_skb has no reason (5.17)")
                .costs(CommandName::Diagnose, Standing::Degraded, text)
                .costs(CommandName::Run, Standing::Degraded, text)
                .advise("a kernel from 5.17 on tells the reason");
        }
        (Fact::Absent(why), _) => (why, "a kernel with CONFIG_DEBUG_INFO_BTF tells its types".to_owned()),
        (_, Fact::Absent(why)) => {
            (why, refusal(readiness).unwrap_or_else(|| "run with CAP_PERFMON".to_owned()))
        }
    };
    Check::fine(name, why)
        .costs(CommandName::Diagnose, Standing::Degraded, unseen)
        .costs(CommandName::Run, Standing::Degraded, unseen)
        .advise(advice)
}

fn symbols(readiness: &Readiness) -> Check {
    let name = "symbols";
    match &readiness.kernel.symbols {
        Fact::Known(()) => Check::fine(name, "/proc/kallsyms is readable"),
        Fact::Absent(why) => Check::fine(name, why)
            .costs(
                CommandName::Diagnose,
                Standing::Degraded,
                "the functions and hooks that drop have no names",
            )
            .costs(CommandName::Run, Standing::Degraded, "the functions that drop have no names")
            .advise("run as root, or with CAP_SYSLOG; kernel.kptr_restrict must not be 2"),
    }
}

/// Settings that slow the programs down. What cannot be read is at its default.
fn speed(readiness: &Readiness) -> Check {
    let name = "speed";
    let settings = &readiness.settings;
    let slow = [
        (&settings.bpf_jit_enable, 0, "net.core.bpf_jit_enable", 1),
        (&settings.bpf_jit_harden, 2, "net.core.bpf_jit_harden", 1),
        (&settings.bpf_stats_enabled, 1, "kernel.bpf_stats_enabled", 0),
    ];
    let slow: Vec<_> = slow.into_iter().filter(|(fact, value, ..)| fact.known() == Some(value)).collect();
    if slow.is_empty() {
        return Check::fine(name, "nothing slows the programs down");
    }
    let found: Vec<String> =
        slow.iter().map(|(_, value, setting, _)| format!("{setting} = {value}")).collect();
    let better: Vec<String> =
        slow.iter().map(|(_, _, setting, value)| format!("sysctl -w {setting}={value}")).collect();
    Check::fine(name, found.join(", "))
        .costs(CommandName::Run, Standing::Degraded, "each packet costs more than it must")
        .advise(better.join("; "))
}

fn tunnel(model: &Model<'_>, readiness: &Readiness) -> Check {
    let name = "tunnel";
    match model.tunnel() {
        Some(tunnel) if tunnel.up => Check::fine(name, "tunl0 is up"),
        Some(_) => Check::fine(name, "tunl0 is set down"),
        None => {
            let module = if readiness.settings.ipip { "ipip is there" } else { "module ipip is not loaded" };
            let text = "there is no tunl0: nothing is encapsulated here";
            Check::fine(name, format!("no tunl0; {module}"))
                .costs(CommandName::Diagnose, Standing::Degraded, text)
                .costs(CommandName::Run, Standing::Degraded, text)
                .advise("on a node with Calico in IPIP mode, run it in the host's network namespace; Felix loads ipip")
        }
    }
}

fn sets(model: &Model<'_>) -> Check {
    let name = "Felix' sets";
    let sets = &model.sample.sets;
    let Some(why) = sets.pools.absent().or(sets.hosts.absent()) else {
        return Check::fine(name, "pools and nodes are known");
    };
    let text = "pools and nodes are known from the routes alone";
    Check::fine(name, why)
        .costs(CommandName::Diagnose, Standing::Degraded, text)
        .costs(CommandName::Run, Standing::Degraded, text)
        .costs(CommandName::Routes, Standing::Degraded, text)
        .advise("run as root or with CAP_NET_ADMIN; where Felix keeps no sets, name the pools with --pool")
}

fn pod_names(model: &Model<'_>) -> Check {
    let name = "pod names";
    match &model.sample.cni_results {
        Fact::Known(results) => Check::fine(name, format!("{} CNI results", results.len())),
        Fact::Absent(why) => {
            let text = "pods have no names";
            Check::fine(name, why)
                .costs(CommandName::Diagnose, Standing::Degraded, text)
                .costs(CommandName::Routes, Standing::Degraded, text)
                .advise("run as root; in a container, give the host's files by --root")
        }
    }
}

/// Whether a capability is held, or one that includes it (`capabilities(7)`).
fn holds(readiness: &Readiness, name: &str) -> Option<bool> {
    let held = readiness.privileges.capabilities.known()?;
    let includes = matches!(name, "CAP_BPF" | "CAP_PERFMON") && held.contains("CAP_SYS_ADMIN");
    Some(held.contains(name) || includes)
}

fn needs(readiness: &Readiness) -> Option<Vec<Need>> {
    use CommandName::{Diagnose, Routes, Run};
    let needs: [(&'static str, &[CommandName], &'static str); 7] = [
        ("CAP_BPF", &[Diagnose, Run], "to load programs"),
        ("CAP_PERFMON", &[Diagnose, Run], "to see drops"),
        ("CAP_NET_ADMIN", &[Diagnose, Run, Routes], "to attach programs and to read sets and rules"),
        ("CAP_SYSLOG", &[Diagnose, Run], "to name the functions that drop"),
        ("CAP_NET_RAW", &[Diagnose], "to send probes and to follow them"),
        ("CAP_SYS_ADMIN", &[Diagnose, Routes], "to enter pods"),
        ("CAP_SYS_PTRACE", &[Diagnose, Routes], "to find pods' network namespaces by their processes"),
    ];
    needs
        .into_iter()
        .map(|(capability, commands, purpose)| {
            let held = holds(readiness, capability)?;
            Some(Need { capability, held, commands: commands.to_vec(), purpose })
        })
        .collect()
}

fn memory(model: &Model<'_>, cpus: usize) -> Memory {
    let pods = model.sample.links.iter().filter(|link| is_pod_link(link)).count();
    let blocks = model.remote_blocks().len() + model.own_blocks().len();
    let peers = model.peers().count();
    let slots = stride(pods, blocks, peers);
    Memory { cpus, slots, bytes: planned_memory(cpus, slots), pods, blocks, peers }
}
