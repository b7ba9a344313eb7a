//! What runs of the lab came to, kept in the target folder for the table of causes.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What one scenario came to on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Right,
    /// Without eBPF less can be seen; it said so.
    CannotSay,
    Wrong,
    /// It is not for this kernel, or not about `diagnose`.
    Skipped,
}

impl Outcome {
    /// The outcome in a line of `caliprobe-lab run`, with the scenario's name.
    fn read(line: &str) -> Option<(Self, &str)> {
        if let Some(rest) = line.strip_prefix("ok      ") {
            let (name, remark) = rest.rsplit_once(" (")?;
            let outcome = if remark.contains("cannot say") { Self::CannotSay } else { Self::Right };
            return Some((outcome, name));
        }
        if let Some(rest) = line.strip_prefix("FAILED  ") {
            return Some((Self::Wrong, rest));
        }
        Some((Self::Skipped, line.strip_prefix("skipped ")?))
    }
}

/// Outcomes by the scenarios' names.
pub type Results = BTreeMap<String, Outcome>;

/// The results of one kernel; the label says too whether it was without eBPF.
pub fn load(label: &str) -> Result<Results> {
    match fs::read(path(label)) {
        Ok(text) => {
            serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path(label).display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Results::new()),
        Err(error) => Err(error).with_context(|| path(label).display().to_string()),
    }
}

/// Adds results to those of before.
pub fn keep(label: &str, new: Results) -> Result<()> {
    let mut results = load(label)?;
    results.extend(new);
    let path = path(label);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&results)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn path(label: &str) -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from(own), PathBuf::from);
    target.join("lab").join(format!("{label}.json"))
}

/// Passes the lab's output on as it comes and reads the outcomes in it.
pub struct Reading<W> {
    to: W,
    line: Vec<u8>,
    /// A failure's line may end in an error's text, so these are matched with the names that were run.
    lines: Vec<String>,
}

impl<W> Reading<W> {
    pub fn new(to: W) -> Self {
        Self { to, line: Vec::new(), lines: Vec::new() }
    }

    /// The outcomes of the scenarios with these names.
    pub fn results<'a>(&self, names: &(impl Iterator<Item = &'a str> + Clone)) -> Results {
        let mut results = Results::new();
        for (outcome, said) in self.lines.iter().filter_map(|line| Outcome::read(line)) {
            let is_named = |name: &&str| {
                said.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
            };
            if let Some(name) = names.clone().filter(is_named).max_by_key(|name| name.len()) {
                results.insert(name.to_owned(), outcome);
            }
        }
        results
    }
}

impl<W: Write> Write for Reading<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        for &byte in &bytes[..written] {
            if byte == b'\n' {
                self.lines.push(String::from_utf8_lossy(&self.line).trim_end().to_owned());
                self.line.clear();
            } else {
                self.line.push(byte);
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_from_what_the_lab_prints() {
        let mut reading = Reading::new(Vec::new());
        let output = "ok      a (b) (1.2 s)\nok      c (0.9 s, cannot say without eBPF)\n\
            FAILED  d\n        expected exit code 1\n        | ok      e (1.0 s)\nFAILED  d: far: no lab\n\
            skipped f: not for 6.1\n1 passed, 2 failed, 1 skipped\n";
        reading.write_all(output.as_bytes()).unwrap();
        let results = reading.results(&["a (b)", "c", "d", "d: far", "e", "f"].into_iter());
        let expected = [
            ("a (b)", Outcome::Right),
            ("c", Outcome::CannotSay),
            ("d", Outcome::Wrong),
            ("d: far", Outcome::Wrong),
            ("f", Outcome::Skipped),
        ];
        assert_eq!(results, expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
        assert_eq!(reading.to, output.as_bytes());
    }
}
