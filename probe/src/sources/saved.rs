//! Samples that were saved earlier, or on another node.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, ensure};

use crate::sample::{FORMAT_VERSION, Sample};

/// A sample of 100,000 routes has a tenth of this.
const LARGEST: u64 = 256 << 20;

/// Reads a sample from a file; the error says what it is instead.
pub fn read(path: &Path) -> anyhow::Result<Sample> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= LARGEST, "{} is larger than {} MiB", path.display(), LARGEST >> 20);
    let sample: Sample = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no sample of caliprobe", path.display()))?;
    ensure!(
        sample.format_version <= FORMAT_VERSION,
        "{} has format version {}; this caliprobe knows {FORMAT_VERSION}: use a newer one",
        path.display(),
        sample.format_version
    );
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Sample> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn a_sample_is_read_back() {
        let sample = Sample { format_version: FORMAT_VERSION, ..Sample::default() };
        assert_eq!(read_text(&serde_json::to_string(&sample).unwrap()).unwrap(), sample);
    }

    #[test]
    fn what_is_no_sample_is_said_in_one_line() {
        let newer = Sample { format_version: FORMAT_VERSION + 1, ..Sample::default() };
        for (text, expected) in [
            (String::new(), "is no sample"),
            ("{}".to_owned(), "missing field"),
            ("default via 10.0.0.1 dev eth0".to_owned(), "is no sample"),
            (serde_json::to_string(&newer).unwrap(), "use a newer one"),
        ] {
            let error = format!("{:#}", read_text(&text).unwrap_err());
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
