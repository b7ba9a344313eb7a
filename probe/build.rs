//! Builds the kernel programs and places them in `OUT_DIR/probe`, from where `kernel/` embeds them.

use std::{env, path::Path};

use anyhow::Context as _;
use aya_build::Package;

#[path = "build/tools.rs"]
mod tools;

fn main() -> anyhow::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let root = Path::new(&manifest).join("../probe-ebpf");
    let root_dir = root.to_str().context("the path of probe-ebpf is not UTF-8")?;
    let package = Package { name: "probe-ebpf", root_dir, ..Package::default() };

    // `caliprobe version` tells it.
    println!("cargo:rustc-env=CALIPROBE_TARGET={}", env::var("TARGET").context("TARGET is not set")?);

    let toolchain = tools::Toolchain::find()
        .context("no Rust toolchain has the source of `core` (rust-src): run `cargo xtask setup`")?;
    let linker = tools::linker().context("bpf-linker is missing: run `cargo xtask setup`")?;
    println!("cargo:rerun-if-changed={}", linker.display());

    // SAFETY: a build script has one thread at this point.
    unsafe {
        env::set_var("PATH", env::join_paths(tools::linker_folders())?);
        // The source of `core` is built with unstable flags, whichever channel the compiler is of.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // The folders of this machine are not to be found in the programs: two builds have the same bytes.
        env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "object");
        // All that the inner cargo says is shown as warnings.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let toolchain =
        toolchain.name.as_deref().map_or(aya_build::Toolchain::Nightly, aya_build::Toolchain::Custom);
    aya_build::build_ebpf([package], toolchain)
}
