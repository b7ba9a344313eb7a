//! `caliprobe preflight`: what it says on kernels and with privileges that tests can describe, and on this
//! kernel, as root and as nobody.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
    thread,
};

use aya::programs::{SchedClassifier, TcAttachType};
use caliprobe::{
    kernel::support,
    model::{Model, readiness::assess},
    readiness::{Attachment, DropDetail, KernelSettings, KernelSupport, Privileges, Readiness},
    report::preflight::PreflightDocument,
    sample::{Fact, FelixSets, Link, Sample},
    sources::traffic_control::TrafficControl,
};
use ipnet::Ipv4Net;
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use serde_json::Value;

/// A node on which all is there.
fn node() -> Sample {
    let link =
        |index, name: &str| Link { index, name: name.to_owned(), up: true, carrier: true, ..Link::default() };
    Sample {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "tunl0"), link(4, "calia45f40cd54e")],
        sets: FelixSets {
            pools: Fact::Known(vec![Ipv4Net::new_assert([10, 200, 0, 0].into(), 16)]),
            hosts: Fact::Known(vec![Ipv4Net::new_assert([172, 30, 10, 187].into(), 32)]),
            ..FelixSets::default()
        },
        cni_results: Fact::Known(Vec::new()),
        ..Sample::default()
    }
}

/// A new kernel and root.
fn ready() -> Readiness {
    let all = ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW", "SYSLOG", "SYS_ADMIN", "SYS_PTRACE"];
    Readiness {
        kernel: KernelSupport {
            types: Fact::Known(DropDetail::Reason),
            symbols: Fact::Known(()),
            ring_buffer: Fact::Known(()),
            maps: Fact::Known(()),
            taps: Fact::Known(()),
            classifiers: Fact::Known(()),
            drops: Fact::Known(()),
            cpus: Fact::Known(4),
            attachment: Fact::Known(Attachment::Tcx),
        },
        privileges: Privileges {
            capabilities: Fact::Known(all.iter().map(|name| format!("CAP_{name}")).collect()),
            initial_user_namespace: Fact::Known(true),
            locked_memory: Fact::Known(Some(8 << 20)),
            packet_sockets: Fact::Known(()),
            pods_entered: Fact::Known(1),
        },
        settings: KernelSettings {
            unprivileged_bpf_disabled: Fact::Known(2),
            lockdown: Fact::Known("none".to_owned()),
            bpf_jit_enable: Fact::Known(1),
            bpf_jit_harden: Fact::Known(0),
            bpf_stats_enabled: Fact::Known(0),
            ipip: true,
        },
    }
}

fn absent<T>(why: &str) -> Fact<T> {
    Fact::Absent(why.to_owned())
}

fn refused_everything(readiness: &mut Readiness, why: &str) {
    let kernel = &mut readiness.kernel;
    for fact in [
        &mut kernel.ring_buffer,
        &mut kernel.maps,
        &mut kernel.taps,
        &mut kernel.classifiers,
        &mut kernel.drops,
    ] {
        *fact = absent(why);
    }
    kernel.attachment = absent(why);
}

fn text(sample: &Sample, readiness: &Readiness) -> String {
    let model = Model::new(sample);
    let document = PreflightDocument::new(&model, assess(&model, readiness));
    assert!(document.quiet().chars().count() <= 80);
    document.text()
}

#[test]
fn all_is_there() {
    insta::assert_snapshot!(text(&node(), &ready()));
}

#[test]
fn an_old_kernel_has_clsact_and_no_drop_reasons() {
    let mut readiness = ready();
    readiness.kernel.types = Fact::Known(DropDetail::Place);
    readiness.kernel.attachment = Fact::Known(Attachment::Clsact);
    insta::assert_snapshot!(text(&node(), &readiness));
}

#[test]
fn a_kernel_without_types_shows_no_drops() {
    let mut readiness = ready();
    readiness.kernel.types =
        absent("cannot read /sys/kernel/btf/vmlinux: No such file or directory (os error 2)");
    insta::assert_snapshot!(text(&node(), &readiness));
}

#[test]
fn locked_memory_is_named_where_maps_are_refused_to_root() {
    let mut readiness = ready();
    refused_everything(&mut readiness, "failed to create map `LEDGER`: Operation not permitted (os error 1)");
    readiness.kernel.ring_buffer = Fact::Known(());
    readiness.privileges.locked_memory = Fact::Known(Some(65536));
    insta::assert_snapshot!(text(&node(), &readiness));
}

#[test]
fn nobody_can_only_read_routes() {
    let mut readiness = ready();
    refused_everything(
        &mut readiness,
        "the kernel refuses to make a map: Operation not permitted (os error 1)",
    );
    readiness.kernel.symbols = absent("the kernel hides its symbols (CAP_SYSLOG, kernel.kptr_restrict)");
    readiness.privileges.capabilities = Fact::Known(std::collections::BTreeSet::new());
    readiness.privileges.packet_sockets = absent("cannot open a packet socket (CAP_NET_RAW): EPERM");
    readiness.privileges.pods_entered = absent("cannot look into /proc/1/ns/net (CAP_SYS_PTRACE)");
    let mut sample = node();
    sample.sets = FelixSets::default();
    sample.cni_results = absent("no CNI result cache under /var/lib/cni/results");
    insta::assert_snapshot!(text(&sample, &readiness));
}

#[test]
fn slow_settings_and_a_node_without_a_tunnel_are_said() {
    let mut readiness = ready();
    readiness.settings.bpf_jit_harden = Fact::Known(2);
    readiness.settings.bpf_stats_enabled = Fact::Known(1);
    readiness.settings.ipip = false;
    let mut sample = node();
    sample.links.retain(|link| link.name != "tunl0");
    insta::assert_snapshot!(text(&sample, &readiness));
}

/// The standing of each command, as the document carries it.
fn standings(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["command"], "preflight");
    let commands = document["commands"].as_array().expect("commands");
    commands.iter().map(|command| command["standing"].as_str().expect("a standing").to_owned()).collect()
}

#[test]
fn nobody_gets_an_answer_on_this_kernel() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become nobody");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("an open folder");
    let program = folder.path().join("caliprobe");
    fs::copy(env!("CARGO_BIN_EXE_caliprobe"), &program).expect("a copy");
    let as_nobody = |command: &str| {
        let mut nobody = Command::new(&program);
        nobody
            .args([command, "-o", "json"])
            .uid(65534)
            .gid(65534)
            .current_dir("/")
            .output()
            .expect("it starts")
    };
    let [diagnose, run, routes] = &standings(&as_nobody("preflight"))[..] else { panic!("three commands") };
    assert_eq!([diagnose, run], ["cannot-run", "cannot-run"]);
    assert_ne!(routes, "cannot-run");
    assert_eq!(as_nobody("routes").status.code(), Some(0));
}

/// Looked at while the process that tried everything still runs, which a killed or leaked attachment needs.
#[test]
fn nothing_is_left_attached() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can attach anything");
        return;
    }
    let (support, clsact, links) = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let support = support::probe(Path::new("/"));
        let loopback = if_nametoindex("lo").expect("a loopback device");
        let clsact = TrafficControl::open().expect("netlink").has_clsact(loopback).expect("an answer");
        // A kernel without TCX does not know the question.
        let links =
            SchedClassifier::query_tcx("lo", TcAttachType::Ingress).map_or(0, |(_, links)| links.len());
        (support, clsact, links)
    })
    .join()
    .expect("no panic");
    assert!(support.attachment.known().is_some(), "{:?}", support.attachment);
    assert!(!clsact);
    assert_eq!(links, 0);
}
