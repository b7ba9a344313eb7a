//! The guest's first root: busybox, two scripts and the modules that it takes to reach the host's root.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, kernels::Kernel};

/// Modules that come before the host's own module tree can be seen. Newer kernels have some of them built in.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtiofs", "overlay"];

/// What `command.sh` is made of.
pub struct Start<'a> {
    pub folder: &'a Path,
    pub environment: &'a [(&'static str, OsString)],
    pub command: &'a [OsString],
}

/// The initramfs as the kernel reads it.
pub fn initramfs(kernel: &Kernel, start: &Start<'_>) -> Result<Vec<u8>> {
    let busybox = command::find_program("busybox").context("busybox is missing (package busybox-static)")?;
    let busybox = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;

    let mut archive = Archive::default();
    for folder in ["bin", "changes", "dev", "host", "modules", "proc", "root", "sys"] {
        archive.folder(folder);
    }
    archive.console();
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("init", 0o755, include_bytes!("init.sh"));
    archive.file("start.sh", 0o644, include_bytes!("start.sh"));
    archive.file("command.sh", 0o644, &script(start));
    archive.file("modules.path", 0o644, kernel.modules().as_os_str().as_bytes());
    for (position, path) in load_order(&kernel.modules())?.iter().enumerate() {
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{position:02}-{name}"), 0o644, &module(&kernel.modules().join(path))?);
    }
    Ok(archive.finish())
}

fn script(start: &Start<'_>) -> Vec<u8> {
    let mut script = Vec::new();
    for (name, value) in start.environment {
        script.extend(format!("export {name}=").bytes());
        script.extend(command::quoted(value));
        script.push(b'\n');
    }
    script.extend(b"cd ");
    script.extend(command::quoted(start.folder.as_os_str()));
    script.extend(b" && exec");
    for word in start.command {
        script.push(b' ');
        script.extend(command::quoted(word));
    }
    script.push(b'\n');
    script
}

/// The paths of `MODULES` and all that they need, below the module tree, each after what it needs itself.
fn load_order(modules: &Path) -> Result<Vec<String>> {
    let path = modules.join("modules.dep");
    let dependencies =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(in_load_order(&dependencies))
}

fn in_load_order(dependencies: &str) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for wanted in MODULES {
        let entry = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| module_name(path).is_some_and(|name| name == wanted));
        let Some((path, needs)) = entry else { continue };
        // modules.dep lists what a module needs with the deepest need last.
        for path in needs.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|known| known == path) {
                order.push(path.to_owned());
            }
        }
    }
    order
}

/// `kernel/fs/fuse/virtio-fs.ko.xz` is the module `virtio_fs`.
fn module_name(path: &str) -> Option<String> {
    let (name, _) = Path::new(path).file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// A module's code; not every kernel of the lab can unpack one by itself.
fn module(path: &Path) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(OsStr::to_str) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = Command::new(unpack)
        .arg("-dc")
        .arg(path)
        .output()
        .with_context(|| format!("cannot start {unpack} to unpack {}", path.display()))?;
    anyhow::ensure!(output.status.success(), "{unpack} cannot unpack {}", path.display());
    Ok(output.stdout)
}

/// A cpio archive in the "new ASCII" form, the only one that the kernel takes
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: usize,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER | 0o755, (0, 0), &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, FILE | permissions, (0, 0), content);
    }

    /// The kernel opens it as the standard files of PID 1.
    fn console(&mut self) {
        self.entry("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), &[]);
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (inode, links, size, name_size) = (self.entries, 1, content.len(), name.len() + 1);
        let (major, minor) = device;
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}{0:08x}{0:08x}\
             {major:08x}{minor:08x}{name_size:08x}{0:08x}",
            0
        );
        self.bytes.extend(header.bytes());
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need() {
        let dependencies = "\
            kernel/fs/fuse/fuse.ko.xz:\n\
            kernel/fs/fuse/virtiofs.ko.xz: kernel/fs/fuse/fuse.ko.xz kernel/drivers/virtio/virtio.ko.xz\n\
            kernel/drivers/virtio/virtio-pci.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n\
            kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/tunnel4.ko.xz\n";
        assert_eq!(
            in_load_order(dependencies),
            [
                "kernel/drivers/virtio/virtio.ko.xz",
                "kernel/drivers/virtio/virtio-pci.ko.xz",
                "kernel/fs/fuse/fuse.ko.xz",
                "kernel/fs/fuse/virtiofs.ko.xz",
            ]
        );
    }

    #[test]
    fn words_reach_the_guest_as_they_were_given() {
        let command: Vec<OsString> = ["printf", "%s|", "it's", "", "a  b", "$HOME"].map(Into::into).to_vec();
        let start = Start { folder: Path::new("/"), environment: &[], command: &command };
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script(&start))).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "it's||a  b|$HOME|");
    }
}
