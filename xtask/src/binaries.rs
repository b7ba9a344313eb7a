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
    /// What builds the cluster and runs scenarios, in a guest.
    pub lab: PathBuf,
}

impl Binaries {
    pub fn build() -> Result<Self> {
        let output = cargo()
            .args(["build", "--package", "caliprobe", "--package", "caliprobe-tests", "--bins"])
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("the build failed ({})", output.status);
        }
        let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
        let built = |name| executable(&messages, name).with_context(|| format!("cargo built no {name}"));
        Ok(Self { caliprobe: built("caliprobe")?, lab: built("caliprobe-lab")? })
    }
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// The part of cargo's messages that tells where an executable is.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.target.as_ref().is_some_and(|target| target.name == name))
        .find_map(|message| message.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"anyhow"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"caliprobe-lab","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"caliprobe-lab","kind":["bin"]},"executable":"/t/debug/caliprobe-lab"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "caliprobe-lab"), Some("/t/debug/caliprobe-lab".into()));
        assert_eq!(executable(messages, "caliprobe"), None);
    }
}
