//! Attaches a program to the drop tracepoint `skb:kfree_skb`.

use anyhow::{Context as _, bail};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, RawTracePoint},
};

use super::in_a_line;

const TRACEPOINT: &str = "kfree_skb";

/// With BTF where the kernel allows it, else raw. The programs stay attached as long as `programs` lives.
pub fn attach(programs: &mut Ebpf, with_btf: &str, raw: &str) -> anyhow::Result<()> {
    let Err(first) = attach_with_btf(programs, with_btf) else { return Ok(()) };
    tracing::debug!("{with_btf} is refused, {raw} is tried: {first:#}");
    let program: &mut RawTracePoint =
        programs.program_mut(raw).context("the drop program is missing")?.try_into()?;
    if let Err(error) = program.load() {
        tracing::debug!("{raw} is refused: {error}");
        bail!("the kernel refuses the drop program (CAP_BPF, CAP_PERFMON): {}", in_a_line(&first));
    }
    program.attach(TRACEPOINT).context("cannot attach to kfree_skb")?;
    Ok(())
}

fn attach_with_btf(programs: &mut Ebpf, name: &str) -> anyhow::Result<()> {
    let btf = Btf::from_sys_fs()?;
    let program: &mut BtfTracePoint =
        programs.program_mut(name).context("the drop program is missing")?.try_into()?;
    program.load(TRACEPOINT, &btf)?;
    program.attach()?;
    Ok(())
}
