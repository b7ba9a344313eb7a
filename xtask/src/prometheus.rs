//! Prometheus and promtool: Debian's package, unpacked into the cache and never installed, because its installation
//! starts a service.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cache::Cache, command, debian::Packages};

const PACKAGE: &str = "prometheus";
/// In the package.
const PROGRAMS: [&str; 2] = ["usr/bin/prometheus", "usr/bin/promtool"];

/// The folder of both programs: the system's where they are on PATH, else the cache's, into which they are
/// downloaded if it has none.
pub fn obtain(cache: &Cache) -> Result<PathBuf> {
    if let (Some(server), Some(_)) = (command::find_program("prometheus"), command::find_program("promtool"))
        && let Some(folder) = server.parent()
    {
        return Ok(folder.to_owned());
    }
    let place = cache.prometheus();
    if !is_there(&place) {
        let _lock = cache.lock()?;
        if !is_there(&place) {
            fetch(cache, &place).context("cannot get Prometheus for the tests of rules and dashboards")?;
        }
    }
    Ok(place.join("usr/bin"))
}

fn is_there(place: &Path) -> bool {
    PROGRAMS.iter().all(|program| command::is_program(&place.join(program)))
}

fn fetch(cache: &Cache, place: &Path) -> Result<()> {
    ensure!(
        command::find_program("apt-get").is_some(),
        "there is no apt here; prometheus and promtool on PATH are used as they are"
    );
    eprintln!("Prometheus: fetching {PACKAGE}");
    let workspace = cache.workspace()?;
    let tree = workspace.path().join("tree");
    Packages::of_this_machine().unpack(&[PACKAGE.to_owned()], workspace.path(), &tree)?;
    ensure!(is_there(&tree), "the package {PACKAGE} has not both programs");
    fs::rename(&tree, place).with_context(|| format!("cannot put it into {}", place.display()))
}
