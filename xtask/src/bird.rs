//! BIRD 1.6, the line that Calico's own BIRD comes from: Debian's package, unpacked into the cache and never
//! installed, because it excludes BIRD 2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cache::Cache, command, debian::Packages};

const PACKAGE: &str = "bird";
const VERSION: &str = "1.6.";
/// The last suite of Debian that has it.
const SUITE: &str = "bookworm";
/// In the package.
const PROGRAM: &str = "usr/sbin/bird";

/// The program in the cache; it is downloaded if the cache has none.
pub fn obtain(cache: &Cache) -> Result<PathBuf> {
    let place = cache.bird();
    if !is_there(&place) {
        let _lock = cache.lock()?;
        if !is_there(&place) {
            fetch(cache, &place).context("cannot get BIRD 1.6 for the lab")?;
        }
    }
    Ok(place.join(PROGRAM))
}

fn is_there(place: &Path) -> bool {
    command::is_program(&place.join(PROGRAM))
}

fn fetch(cache: &Cache, place: &Path) -> Result<()> {
    ensure!(
        command::find_program("apt-get").is_some(),
        "there is no apt here; it is Debian's package {PACKAGE}. A BIRD 1.6 at {} is used as it is",
        place.join(PROGRAM).display()
    );
    let machine = Packages::of_this_machine();
    if machine.has(PACKAGE, VERSION)? {
        // Lists of a machine that was not updated for long name packages that are gone: then the suite is asked.
        match unpack(cache, &machine, place) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("BIRD 1.6: {error:#}"),
        }
    }
    unpack(cache, &Packages::of_suite(cache, SUITE)?, place)
}

fn unpack(cache: &Cache, packages: &Packages, place: &Path) -> Result<()> {
    eprintln!("BIRD 1.6: fetching {PACKAGE}");
    let workspace = cache.workspace()?;
    let tree = workspace.path().join("tree");
    packages.unpack(&[PACKAGE.to_owned()], workspace.path(), &tree)?;
    ensure!(is_there(&tree), "the package {PACKAGE} has no {PROGRAM}");
    fs::rename(&tree, place).with_context(|| format!("cannot put it into {}", place.display()))
}
