//! What the running kernel, this process's privileges and this node allow the probe to do: raw facts, found by
//! trying rather than by version numbers.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::sample::Fact;

/// How counting programs are attached to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// Links that vanish with the process.
    Tcx,
    /// Filters that stay behind when the process is killed.
    Clsact,
}

/// What the drop programs are told of a dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropDetail {
    /// Where and why.
    Reason,
    /// Only where: the tracepoint has no reason.
    Place,
}

/// What the kernel accepts of the kernel programs. Each was tried; an absent one says how it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSupport {
    /// The kernel's own types, `/sys/kernel/btf/vmlinux`, and what they say of drops.
    pub types: Fact<DropDetail>,
    /// The kernel's functions, `/proc/kallsyms`.
    pub symbols: Fact<()>,
    /// Ring buffers, by which events come.
    pub ring_buffer: Fact<()>,
    /// Every map of the programs, with the ledger mapped into memory.
    pub maps: Fact<()>,
    /// Filters of packet sockets, which follow the probes of a diagnosis.
    pub taps: Fact<()>,
    /// Classifiers, which count at the devices.
    pub classifiers: Fact<()>,
    /// Programs on the tracepoint of drops.
    pub drops: Fact<()>,
    /// CPUs that may ever be online: the ledger has slots for each.
    pub cpus: Fact<usize>,
    /// A classifier attached to the loopback device of a network namespace made for it.
    pub attachment: Fact<Attachment>,
}

/// What this process may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Effective capabilities, as `CAP_NET_ADMIN`.
    pub capabilities: Fact<BTreeSet<String>>,
    /// Whether it is in the initial user namespace, where capabilities are whole.
    pub initial_user_namespace: Fact<bool>,
    /// `RLIMIT_MEMLOCK` in bytes; `None` is without limit. Kernels before 5.11 count maps against it.
    pub locked_memory: Fact<Option<u64>>,
    /// Whether packet sockets may be opened.
    pub packet_sockets: Fact<()>,
    /// Whether the pods' network namespaces may be entered; how many were.
    pub pods_entered: Fact<usize>,
}

/// Settings of the kernel that decide over or slow down its programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSettings {
    /// `kernel.unprivileged_bpf_disabled`: 0 everyone may load programs, 1 and 2 only the privileged.
    pub unprivileged_bpf_disabled: Fact<u8>,
    /// `none`, `integrity` or `confidentiality`, of `/sys/kernel/security/lockdown`.
    pub lockdown: Fact<String>,
    /// `net.core.bpf_jit_enable`.
    pub bpf_jit_enable: Fact<u8>,
    /// `net.core.bpf_jit_harden`: 2 hardens the privileged's programs too, which slows them down.
    pub bpf_jit_harden: Fact<u8>,
    /// `kernel.bpf_stats_enabled`: every run of a program is timed.
    pub bpf_stats_enabled: Fact<u8>,
    /// Whether the module `ipip` is there, as a module or built in.
    pub ipip: bool,
}

/// Everything that `preflight` found beside the node's sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub kernel: KernelSupport,
    pub privileges: Privileges,
    pub settings: KernelSettings,
}
