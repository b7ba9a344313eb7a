//! Building what runs in the guests.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The debug builds of this checkout.
#[derive(Debug)]
pub struct Binaries {
    pub caliprobe: PathBuf,
    /// What builds the cluster and runs scenarios, in a guest. It finds the library of its package beside itself.
    pub lab: PathBuf,
}

impl Binaries {
    pub fn build() -> Result<Self> {
        Self::of(&["--package", "caliprobe", "--package", "caliprobe-tests", "--bins", "--lib"])
    }

    /// Builds the tests of the workspace too: with the features that those ask for, what both need is built once.
    pub fn build_with_tests() -> Result<Self> {
        Self::of(&["--lib", "--bins", "--tests"])
    }

    fn of(selection: &[&str]) -> Result<Self> {
        let messages = messages(cargo().arg("build").args(selection))?;
        Ok(Self { caliprobe: found(&messages, "caliprobe")?, lab: found(&messages, "caliprobe-lab")? })
    }
}

/// Runs one of cargo's builds, and finds an executable that came out of it.
pub fn built(build: &mut Command, name: &str) -> Result<PathBuf> {
    found(&messages(build)?, name)
}

/// Runs one of cargo's builds, and returns what it says for programs.
pub fn messages(build: &mut Command) -> Result<String> {
    let output = build
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the build failed ({})", output.status);
    }
    String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")
}

/// The executable of that name, by these messages.
pub fn found(messages: &str, name: &str) -> Result<PathBuf> {
    executable(messages, name).with_context(|| format!("cargo built no {name}"))
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// The part of cargo's messages that tells where an executable is.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    /// Whether it is the target's own unit tests, which have the target's name.
    test: bool,
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| {
            // A benchmark is built by the profile of tests, too.
            let is_test = message.profile.as_ref().is_none_or(|profile| profile.test);
            let wanted = |target: &Target| target.name == name && (!is_test || target.kind == ["bench"]);
            message.target.as_ref().is_some_and(wanted)
        })
        .find_map(|message| message.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"anyhow"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"lab"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"lab"},"profile":{"test":true},"executable":"/t/debug/deps/lab-1f"}
{"reason":"compiler-artifact","target":{"name":"lab"},"profile":{"test":false},"executable":"/t/debug/lab"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "lab"), Some("/t/debug/lab".into()));
        assert_eq!(executable(messages, "caliprobe"), None);
    }
}
