//! Where kernels and built tools are kept: outside the tree that git tracks, shared by all checkouts of a user.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

use crate::tools;

#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    pub fn open() -> Result<Self> {
        let root = tools::cache().context(
            "neither CALIPROBE_CACHE, XDG_CACHE_HOME nor HOME is set: no place for kernels and tools",
        )?;
        fs::create_dir_all(&root).with_context(|| format!("cannot create the cache {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("no such folder: {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder of one kernel series: `kernels/6.12`.
    pub fn kernel(&self, series: &str) -> PathBuf {
        self.root.join("kernels").join(series)
    }

    /// The unpacked package of BIRD 1.6.
    pub fn bird(&self) -> PathBuf {
        self.root.join("bird")
    }

    /// One of Debian's packages, unpacked.
    pub fn unpacked(&self, package: &str) -> PathBuf {
        self.root.join(package)
    }

    /// An installed Debian of that name, for tests of packages.
    pub fn debian(&self, suite: &str) -> PathBuf {
        self.root.join(format!("debian-{suite}"))
    }

    /// The package lists of one Debian suite that the machine itself does not use.
    pub fn suite(&self, suite: &str) -> PathBuf {
        self.root.join("apt").join(suite)
    }

    /// What `cargo install --root` is given; the programs are in its `bin`.
    pub fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// Waits until no other xtask changes the cache; the lock is given back when the file is dropped.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// An empty folder on the cache's own file system, so that what is built in it can be renamed into place.
    pub fn workspace(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("partial-")
            .tempdir_in(&self.root)
            .with_context(|| format!("cannot write to {}", self.root.display()))
    }
}
