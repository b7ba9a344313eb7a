//! What the verdict of a scenario rests on, for tests that judge it again without a machine. A guest shares no
//! writable file with its host, so a recording leaves it as a line of its output.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result};
use data_encoding::BASE64;
use flate2::{Compression, write::GzEncoder};

use crate::scenario::Scenario;

/// What the line of a recording begins with.
const PREFIX: &str = "recorded ";

/// A file on the scenario's machine into which caliprobe writes.
pub struct Recording {
    name: String,
    path: PathBuf,
}

impl Recording {
    /// Of commands that judge this node and say it as a document.
    pub fn of(scenario: &Scenario) -> Option<Self> {
        let command = scenario.run.first()?;
        let is_judged = matches!(command.as_str(), "diagnose" | "check");
        let is_plain =
            !scenario.unprivileged && !scenario.expect.is_of_text() && scenario.expect.exit != Some(2);
        let name = scenario.file.file_stem()?.to_str()?.to_owned();
        (is_judged && is_plain).then(|| Self { path: PathBuf::from("/run/recording.json"), name })
    }

    pub fn arguments(&self) -> [&str; 2] {
        ["--record", self.path.to_str().unwrap_or_default()]
    }

    /// The recording as a line of text; runs on the scenario's machine.
    pub fn line(&self) -> Result<String> {
        let text = fs::read(&self.path).context("caliprobe recorded nothing")?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&text)?;
        Ok(format!("{PREFIX}{} {}", self.name, BASE64.encode(&packed.finish()?)))
    }
}
