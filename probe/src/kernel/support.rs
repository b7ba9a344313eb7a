//! What the kernel accepts of the kernel programs, found by loading them. Nothing stays: the programs go with
//! their descriptors, and the only device that they are attached to is the loopback of a network namespace that
//! is made for it and gone with its thread.

use std::{path::Path, thread};

use anyhow::{Context as _, anyhow};
use aya::{
    Btf as LoaderBtf, Ebpf, EbpfLoader,
    maps::MapType,
    programs::{
        LinkOrder, Program, SchedClassifier, TcAttachType,
        tc::{self, TcAttachOptions},
    },
    sys::is_map_supported,
    util::nr_cpus,
};
use nix::sched::{CloneFlags, unshare};

use super::{
    PROGRAMS,
    attachments::has_no_tcx,
    in_a_line,
    ledger::Mapping,
    symbols::Symbols,
    visibility::{NO_DROP_OFFSETS, NO_OFFSETS, Visibility},
};
use crate::{
    readiness::{Attachment, DropDetail, KernelSupport},
    sample::Fact,
};

/// Slots of the ledger that is made to try it: a page.
const SLOTS: u32 = 64;
const TRACEPOINT: &str = "kfree_skb";
const LOOPBACK: &str = "lo";

/// Tries everything.
pub fn probe(root: &Path) -> KernelSupport {
    let visibility = Visibility::of_running_kernel();
    let mut support = KernelSupport {
        symbols: Fact::from_result(Symbols::read(root).map(drop)),
        ring_buffer: Fact::from_result(ring_buffer()),
        cpus: Fact::from_result(nr_cpus().map_err(|(file, error)| anyhow!("cannot read {file}: {error}"))),
        ..KernelSupport::default()
    };
    match load(visibility.as_ref().ok()) {
        Ok(mut programs) => {
            support.taps = Fact::from_result(accept(&mut programs, Kind::Tap));
            support.classifiers = Fact::from_result(accept(&mut programs, Kind::Classifier));
            support.drops = Fact::from_result(
                accept(&mut programs, Kind::Drop).or_else(|_| accept(&mut programs, Kind::RawDrop)),
            );
            support.attachment = Fact::from_result(attach_in_a_new_namespace(&mut programs));
            support.maps = Fact::from_result(map_ledger(&mut programs));
        }
        Err(error) => {
            let why = format!("{error:#}");
            support.maps = Fact::Absent(why.clone());
            for fact in [&mut support.taps, &mut support.classifiers, &mut support.drops] {
                *fact = Fact::Absent(why.clone());
            }
            support.attachment = Fact::Absent(why);
        }
    }
    support.types = Fact::from_result(
        visibility.map(
            |visibility| {
                if visibility.has_reason { DropDetail::Reason } else { DropDetail::Place }
            },
        ),
    );
    support
}

fn ring_buffer() -> anyhow::Result<()> {
    let supported = is_map_supported(MapType::RingBuf).context("the kernel refuses to make a map")?;
    supported.then_some(()).context("this kernel has no ring buffers (5.8)")
}

/// Makes every map, the ledger a small one.
fn load(visibility: Option<&Visibility>) -> anyhow::Result<Ebpf> {
    let offsets = visibility.map_or(NO_OFFSETS, |visibility| visibility.offsets);
    let drop_offsets = visibility.map_or(NO_DROP_OFFSETS, |visibility| visibility.drop_offsets);
    let has_reason = u32::from(visibility.is_some_and(|visibility| visibility.has_reason));
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("LEDGER", SLOTS)
        .override_global("OFFSETS", &offsets, true)
        .override_global("DROP_OFFSETS", &drop_offsets, true)
        .override_global("HAS_REASON", &has_reason, true);
    loader.load(PROGRAMS).context("the kernel refuses the programs' maps")
}

fn map_ledger(programs: &mut Ebpf) -> anyhow::Result<()> {
    let map = programs.take_map("LEDGER").context("the ledger is missing")?;
    Mapping::new(map, 1, SLOTS).map(drop)
}

/// What a program is attached to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tap,
    Classifier,
    Drop,
    RawDrop,
}

/// Has the kernel verify every program of a kind.
fn accept(programs: &mut Ebpf, kind: Kind) -> anyhow::Result<()> {
    for (name, program) in programs.programs_mut() {
        let outcome = match (kind, program) {
            (Kind::Tap, Program::SocketFilter(program)) => program.load(),
            (Kind::Classifier, Program::SchedClassifier(program)) => program.load(),
            (Kind::Drop, Program::BtfTracePoint(program)) => {
                let btf = LoaderBtf::from_sys_fs().context("the kernel does not tell its types")?;
                program.load(TRACEPOINT, &btf)
            }
            (Kind::RawDrop, Program::RawTracePoint(program)) => program.load(),
            _ => continue,
        };
        outcome.map_err(|error| anyhow!("{name}: {}", in_a_line(&anyhow::Error::from(error))))?;
    }
    Ok(())
}

fn attach_in_a_new_namespace(programs: &mut Ebpf) -> anyhow::Result<Attachment> {
    let mut classifiers = programs.programs_mut().filter_map(|(_, program)| match program {
        Program::SchedClassifier(program) if program.fd().is_ok() => Some(program),
        _ => None,
    });
    let program = classifiers.next().context("no classifier is loaded")?;
    thread::scope(|scope| {
        let attempt = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace to try it in (CAP_SYS_ADMIN)")?;
            attach_to_loopback(program)
        });
        attempt.join().map_err(|_| anyhow!("the attempt ended by a panic"))?
    })
}

fn attach_to_loopback(program: &mut SchedClassifier) -> anyhow::Result<Attachment> {
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    match program.attach_with_options(LOOPBACK, TcAttachType::Ingress, first) {
        Ok(link) => {
            program.detach(link)?;
            return Ok(Attachment::Tcx);
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            if !has_no_tcx(&error) {
                return Err(error.context("the kernel refuses to attach a classifier"));
            }
        }
    }
    tc::qdisc_add_clsact(LOOPBACK).context("the kernel has no clsact")?;
    let link = program
        .attach_with_options(
            LOOPBACK,
            TcAttachType::Ingress,
            TcAttachOptions::Netlink(tc::NlOptions::default()),
        )
        .context("the kernel refuses to attach a classifier")?;
    program.detach(link)?;
    Ok(Attachment::Clsact)
}
