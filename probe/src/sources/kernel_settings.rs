//! Settings of the kernel that decide over its programs.

use std::path::Path;

use anyhow::Context as _;

use super::files::read_text;
use crate::{readiness::KernelSettings, sample::Fact};

pub fn read(root: &Path) -> KernelSettings {
    let sysctl = |name: &str| Fact::from_result(number(&root.join("proc/sys").join(name)));
    KernelSettings {
        unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
        lockdown: Fact::from_result(lockdown(&root.join("sys/kernel/security/lockdown"))),
        bpf_jit_enable: sysctl("net/core/bpf_jit_enable"),
        bpf_jit_harden: sysctl("net/core/bpf_jit_harden"),
        bpf_stats_enabled: sysctl("kernel/bpf_stats_enabled"),
        // Built in, it has no folder of its own, but its device is in every network namespace.
        ipip: root.join("sys/module/ipip").exists() || root.join("proc/sys/net/ipv4/conf/tunl0").exists(),
    }
}

fn number(path: &Path) -> anyhow::Result<u8> {
    let text = read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} holds no number", path.display()))
}

/// The level in force is the one in brackets: `none [integrity] confidentiality`.
fn lockdown(path: &Path) -> anyhow::Result<String> {
    let text = read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    let level = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    level.map(str::to_owned).with_context(|| format!("{} names no level", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn settings_are_read_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
        write("proc/sys/net/core/bpf_jit_enable", "1\n");
        write("proc/sys/net/core/bpf_jit_harden", "much\n");
        let settings = read(root.path());
        assert_eq!(settings.lockdown, Fact::Known("confidentiality".to_owned()));
        assert_eq!(settings.bpf_jit_enable, Fact::Known(1));
        assert!(settings.bpf_jit_harden.absent().unwrap().contains("holds no number"));
        assert!(settings.unprivileged_bpf_disabled.absent().unwrap().contains("cannot read"));
        assert!(!settings.ipip);
    }
}
