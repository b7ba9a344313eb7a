//! Recordings of scenarios, taken out of what a guest prints: what each verdict rests on, kept in `tests/recorded` for
//! the tests that judge it again.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;

/// What the line of a recording begins with.
const PREFIX: &str = "recorded ";

/// Passes a guest's output on, and keeps the recordings in it.
pub struct Recordings<W> {
    to: W,
    folder: PathBuf,
    line: Vec<u8>,
}

impl<W: Write> Recordings<W> {
    /// Those that come with this checkout are replaced.
    pub fn of_this_checkout(to: W) -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recorded")).to_owned();
        Self { to, folder, line: Vec::new() }
    }

    fn end_of_line(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        match String::from_utf8_lossy(&line).trim_end().strip_prefix(PREFIX) {
            Some(recording) => self.keep(recording),
            None => Ok(self.to.write_all(&line)?),
        }
    }

    fn keep(&self, recording: &str) -> Result<()> {
        let (name, packed) = recording.split_once(' ').context("a recording without a name")?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        ensure!(!name.is_empty() && name.bytes().all(is_name), "`{name}` is no scenario's name");
        let packed = BASE64.decode(packed.as_bytes()).with_context(|| format!("the recording {name}"))?;
        let file = self.folder.join(name).with_extension("json.gz");
        fs::write(&file, packed).with_context(|| file.display().to_string())
    }
}

impl<W: Write> Write for Recordings<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_of_line().map_err(io::Error::other)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_kept_and_the_rest_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Recordings { to: Vec::new(), folder: folder.path().to_owned(), line: Vec::new() };
        for part in b"recorded rp-filter aGVsbG8=\nok      strict validation (1.0 s)\n".chunks(5) {
            output.write_all(part).unwrap();
        }
        assert_eq!(output.to, b"ok      strict validation (1.0 s)\n");
        assert_eq!(fs::read(folder.path().join("rp-filter.json.gz")).unwrap(), b"hello");
        for bad in ["recorded ../x aGVsbG8=\n", "recorded x !\n", "recorded x\n"] {
            assert!(output.write_all(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
