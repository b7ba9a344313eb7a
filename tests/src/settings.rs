//! Settings of the kernel that all namespaces share, changed for one scenario.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

/// Puts the former values back when it is dropped.
#[derive(Debug, Default)]
pub struct Settings {
    former: Vec<(PathBuf, String)>,
}

impl Settings {
    /// Sets `net.ipv4.neigh.default.gc_thresh3` and its like in the lab's own namespaces.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        let former = fs::read_to_string(&path).with_context(|| format!("no setting {key}"))?;
        fs::write(&path, value).with_context(|| format!("cannot set {key} to {value}"))?;
        self.former.push((path, former));
        Ok(())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for (path, value) in self.former.drain(..).rev() {
            // It could be written before, and the guest ends with its scenarios anyway.
            let _ = fs::write(path, value.trim());
        }
    }
}
