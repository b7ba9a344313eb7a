//! Programs that tests run and this machine need not have: Debian's packages, unpacked into the cache and never
//! installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cache::Cache, command, debian::Packages};

/// One of Debian's packages.
pub struct Unpacked {
    package: &'static str,
    /// The suite that has it in a version that will do; this machine's own without.
    suite: Option<&'static str>,
    /// In its `usr/bin`.
    programs: &'static [&'static str],
    what_for: &'static str,
}

/// Its installation would start a service.
pub const PROMETHEUS: Unpacked = Unpacked {
    package: "prometheus",
    suite: None,
    programs: &["prometheus", "promtool"],
    what_for: "the tests of rules and dashboards",
};

/// The `kubectl kustomize` of Debian 12 is too old to know `labels` and components.
pub const KUSTOMIZE: Unpacked = Unpacked {
    package: "kustomize",
    suite: Some("trixie"),
    programs: &["kustomize"],
    what_for: "the tests of the manifests for Kubernetes",
};

impl Unpacked {
    /// The folder of its programs: the system's where they are on PATH, else the cache's, into which they are
    /// downloaded if it has none.
    pub fn obtain(&self, cache: &Cache) -> Result<PathBuf> {
        let installed = self.programs.iter().map(command::find_program);
        if let Some(installed) = installed.collect::<Option<Vec<_>>>()
            && let Some(folder) = installed.first().and_then(|program| program.parent())
        {
            return Ok(folder.to_owned());
        }
        let place = cache.unpacked(self.package);
        if !self.is_in(&place) {
            let _lock = cache.lock()?;
            if !self.is_in(&place) {
                self.fetch(cache, &place)
                    .with_context(|| format!("cannot get {} for {}", self.package, self.what_for))?;
            }
        }
        Ok(place.join("usr/bin"))
    }

    fn is_in(&self, place: &Path) -> bool {
        self.programs.iter().all(|program| command::is_program(&place.join("usr/bin").join(program)))
    }

    fn fetch(&self, cache: &Cache, place: &Path) -> Result<()> {
        let Self { package, suite, programs, .. } = self;
        ensure!(
            command::find_program("apt-get").is_some(),
            "there is no apt here; what is on PATH is used as it is: {}",
            programs.join(", ")
        );
        let packages = match suite {
            Some(suite) => Packages::of_suite(cache, suite)?,
            None => Packages::of_this_machine(),
        };
        eprintln!("{package}: fetching Debian's package");
        let workspace = cache.workspace()?;
        let tree = workspace.path().join("tree");
        packages.unpack(&[(*package).to_owned()], workspace.path(), &tree)?;
        ensure!(self.is_in(&tree), "the package {package} has not all of {}", programs.join(", "));
        fs::rename(&tree, place).with_context(|| format!("cannot put it into {}", place.display()))
    }
}
