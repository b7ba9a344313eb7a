//! Prometheus' programs.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// One of them; `None`, said aloud, where it is not to be had.
pub fn find(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("CALIPROBE_PROMETHEUS").map(PathBuf::from).into_iter();
    let path = env::var_os("PATH").unwrap_or_default();
    let cache = env::var_os("CALIPROBE_CACHE").map(PathBuf::from).or_else(|| {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
        Some(caches?.join("caliprobe"))
    });
    let folders =
        folders.chain(env::split_paths(&path)).chain(cache.map(|cache| cache.join("prometheus/usr/bin")));
    let program = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if program.is_none() {
        eprintln!("SKIPPED: there is no {name}; `cargo xtask setup` fetches it");
    }
    program
}

/// Fails with all that promtool said, if it was not content with `input`. Without promtool nothing is judged.
pub fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let Some(promtool) = find("promtool") else { return Ok(()) };
    let mut promtool = Command::new(promtool);
    let promtool =
        promtool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn()?;
    let mut stdin = child.stdin.take().context("promtool has no input")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}
