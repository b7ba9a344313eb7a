//! Builds the kernel programs and places them in `OUT_DIR/probe`, from where `kernel/` embeds them.

use std::{env, path::Path, process::Command};

use anyhow::Context as _;
use aya_build::{Package, Toolchain};

/// A toolchain with `rust-src`: Debian's own compiler, linked to rustup by `cargo xtask setup` under this name,
/// or else a rustup nightly.
const DEBIAN_TOOLCHAIN: &str = "debian";

fn main() -> anyhow::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let root = Path::new(&manifest).join("../probe-ebpf");
    let root_dir = root.to_str().context("the path of probe-ebpf is not UTF-8")?;
    let package = Package { name: "probe-ebpf", root_dir, ..Package::default() };
    let toolchain = if has_toolchain(DEBIAN_TOOLCHAIN) {
        // SAFETY: a build script has one thread at this point.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
        Toolchain::Custom(DEBIAN_TOOLCHAIN)
    } else {
        Toolchain::default()
    };
    aya_build::build_ebpf([package], toolchain)
}

fn has_toolchain(name: &str) -> bool {
    Command::new("rustup")
        .args(["run", name, "rustc", "--version"])
        .output()
        .is_ok_and(|out| out.status.success())
}
