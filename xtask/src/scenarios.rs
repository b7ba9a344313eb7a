//! The scenario files of this checkout, as far as it matters which of them to run and what they are about.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What a scenario file says of itself; the lab reads the rest.
#[derive(Clone, Debug, Deserialize)]
pub struct Scenario {
    #[serde(skip)]
    pub file: PathBuf,
    pub name: String,
    /// Whether it is run on every kernel whenever all tests are.
    #[serde(default)]
    pub short: bool,
    /// How many minutes it may take.
    #[serde(default = "one_minute")]
    pub minutes: u32,
    /// Where on the path its fault lies.
    pub fault: Option<Place>,
    #[serde(default)]
    pub expect: Expected,
}

fn one_minute() -> u32 {
    1
}

/// Where a fault meets packets, or that it is a node's state, which none needs to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    Sender,
    Receiver,
    Return,
    Node,
}

impl Place {
    /// In the order in which packets pass them.
    pub const OF_PACKETS: [Self; 3] = [Self::Sender, Self::Receiver, Self::Return];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::Return => "return path",
            Self::Node => "node's state",
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Expected {
    cause: Option<String>,
    #[serde(default)]
    explained_by: Vec<String>,
}

impl Scenario {
    /// The codes that it is about: the one that it expects, and what explains that one.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.expect.cause.iter().chain(&self.expect.explained_by).map(String::as_str)
    }

    fn read(file: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let scenario: Self =
            toml::from_str(&text).with_context(|| format!("{} is no scenario", file.display()))?;
        Ok(Self { file, ..scenario })
    }
}

/// All of them, in order of their files' names.
pub fn all() -> Result<Vec<Scenario>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios")).canonicalize();
    let folder = folder.context("this checkout has no tests/scenarios")?;
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files.into_iter().map(Scenario::read).collect()
}

/// How long scenario files may take in all; the lab says what is wrong with one that cannot be read.
pub fn minutes(files: &[PathBuf]) -> u32 {
    files.iter().map(|file| Scenario::read(file.clone()).map_or(1, |scenario| scenario.minutes)).sum()
}

/// The files of all of them, or of the short set.
pub fn files(full: bool) -> Result<Vec<PathBuf>> {
    let chosen = all()?.into_iter().filter(|scenario| full || scenario.short);
    Ok(chosen.map(|scenario| scenario.file).collect())
}
