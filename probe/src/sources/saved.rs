//! What `--input` accepts: a saved sample, pasted outputs in files, in a folder for each node or in an archive of
//! these, and all of it on standard input.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, BufWriter, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use flate2::read::MultiGzDecoder;

use super::pasted::{self, Text};
use crate::sample::{FORMAT_VERSION, Sample};

/// A sample of 100,000 routes has a tenth of this. All that one input holds together.
const LARGEST: u64 = 256 << 20;
/// Files of one input.
const MOST_FILES: usize = 10_000;
/// A folder of clusters with a folder for each node, with folders by kind.
const DEEPEST: usize = 4;
/// How many files an error names.
const NAMED_FILES: usize = 3;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// `ustar`, in the header of a tape archive's first file.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Reads all samples of an input, at least one; the error says what it holds instead.
pub fn read(path: &Path) -> anyhow::Result<Vec<Sample>> {
    let mut gathered = Gathered::default();
    if path == Path::new("-") {
        let bytes = gathered.read(io::stdin().lock(), "standard input")?;
        gathered.add(Place::of_file(Path::new("standard input")), &bytes)?;
    } else {
        gathered.walk(path, &PathBuf::new(), 0).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let Gathered { mut samples, texts, files, .. } = gathered;
    samples.extend(pasted::read(&texts));
    if samples.is_empty() {
        let named: Vec<&str> = files.iter().take(NAMED_FILES).map(String::as_str).collect();
        let more = if files.len() > NAMED_FILES { ", …" } else { "" };
        let found = match files.len() {
            0 => "no file".to_owned(),
            1 => named.join(""),
            count => format!("{count} files ({}{more})", named.join(", ")),
        };
        bail!(
            "{}: nothing recognised in {found}; accepted: {}, or a saved sample",
            path.display(),
            pasted::ACCEPTED
        );
    }
    Ok(samples)
}

/// Writes a sample, all of it or nothing: the file gets its name once it is on the disk, and no file of that name is
/// lost. Returns how many bytes it has.
pub fn write_whole(file: &Path, sample: &Sample) -> anyhow::Result<u64> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unnamed = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(unnamed);
    serde_json::to_writer(&mut writer, sample)?;
    let unnamed = writer.into_inner()?;
    unnamed.as_file().sync_all()?;
    let bytes = unnamed.as_file().metadata()?.len();
    unnamed.persist_noclobber(file)?;
    // The name too.
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}

/// Where a file lies within an input.
struct Place {
    /// Its folder, or itself where it lies in none.
    place: String,
    file: String,
}

impl Place {
    fn of_file(path: &Path) -> Self {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let file = name(path).unwrap_or_default();
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self { place: path.parent().and_then(name).unwrap_or_else(stem), file }
    }
}

/// What was found on the way through an input.
#[derive(Default)]
struct Gathered {
    samples: Vec<Sample>,
    texts: Vec<Text>,
    files: Vec<String>,
    bytes: u64,
}

impl Gathered {
    /// Reads a file, or everything within a folder in the order of the names.
    fn walk(&mut self, path: &Path, within: &Path, depth: usize) -> anyhow::Result<()> {
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        let inside = within.join(&name);
        // A link could lead out of the folder, and round.
        let about = if depth == 0 { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        if about.is_dir() {
            ensure!(depth < DEEPEST, "folders lie more than {DEEPEST} deep");
            let mut entries: Vec<PathBuf> = fs::read_dir(path)?
                .take(MOST_FILES)
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()?;
            entries.sort();
            for entry in entries {
                self.walk(&entry, &inside, depth + 1)?;
            }
            return Ok(());
        }
        if !about.is_file() && depth > 0 {
            return Ok(());
        }
        ensure!(
            about.len() <= LARGEST,
            "{}: {} MiB are more than the {} MiB of an input",
            name.display(),
            about.len() >> 20,
            LARGEST >> 20
        );
        let bytes = self.read(File::open(path)?, &name.to_string_lossy())?;
        self.add(Place::of_file(&inside), &bytes)
    }

    fn read(&mut self, reader: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let left = LARGEST - self.bytes;
        reader.take(left + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
        ensure!(bytes.len() as u64 <= left, "{name}: the input is larger than {} MiB", LARGEST >> 20);
        self.bytes += bytes.len() as u64;
        ensure!(self.files.len() < MOST_FILES, "the input has more than {MOST_FILES} files");
        Ok(bytes)
    }

    fn add(&mut self, place: Place, bytes: &[u8]) -> anyhow::Result<()> {
        if bytes.starts_with(&GZIP) {
            let unpacked = self.read(MultiGzDecoder::new(bytes), &place.file)?;
            ensure!(!unpacked.starts_with(&GZIP), "{}: compressed twice", place.file);
            return self.add(place, &unpacked);
        }
        if is_archive(bytes) {
            return self.unpack(&place, bytes);
        }
        self.files.push(place.file.clone());
        if is_sample(bytes) {
            self.samples.push(sample(bytes).context(place.file)?);
            return Ok(());
        }
        // What is not text is not recognised either.
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.texts.push(Text { place: place.place, file: place.file, text });
        Ok(())
    }

    /// The files of an archive; none is written anywhere.
    fn unpack(&mut self, archive: &Place, bytes: &[u8]) -> anyhow::Result<()> {
        let mut entries = tar::Archive::new(bytes);
        let entries = entries.entries().with_context(|| format!("cannot read {}", archive.file))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", archive.file))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map(Cow::into_owned).unwrap_or_default();
            let content = self.read(entry, &path.to_string_lossy())?;
            ensure!(!is_archive(&content), "{}: an archive within an archive", path.display());
            self.add(Place::of_file(&path), &content)?;
        }
        Ok(())
    }
}

/// Reads any bytes, as if they were a file of an input.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Vec<Sample>> {
    let mut gathered = Gathered::default();
    gathered.add(Place::of_file(Path::new("input")), bytes)?;
    gathered.samples.extend(pasted::read(&gathered.texts));
    Ok(gathered.samples)
}

fn is_archive(bytes: &[u8]) -> bool {
    let (at, magic) = TAR_MAGIC;
    bytes.get(at..at + magic.len()) == Some(magic)
}

/// No output that is read begins with a brace.
fn is_sample(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

fn sample(bytes: &[u8]) -> anyhow::Result<Sample> {
    let sample: Sample = serde_json::from_slice(bytes).context("it is no sample of caliprobe")?;
    ensure!(
        sample.format_version <= FORMAT_VERSION,
        "it has format version {}; this caliprobe knows {FORMAT_VERSION}: use a newer one",
        sample.format_version
    );
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    const ROUTES: &str =
        "default via 10.0.0.1 dev eth0\n10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.5\n";

    fn names(samples: &[Sample]) -> Vec<&str> {
        samples.iter().map(|sample| sample.node.hostname.as_str()).collect()
    }

    fn complaint(path: &Path) -> String {
        let error = format!("{:#}", read(path).unwrap_err());
        assert!(!error.contains('\n'), "{error}");
        error
    }

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_sample_is_read_back() {
        let sample = Sample { format_version: FORMAT_VERSION, ..Sample::default() };
        let file = written(&serde_json::to_vec(&sample).unwrap());
        assert_eq!(read(file.path()).unwrap(), [sample]);
    }

    #[test]
    fn a_folder_for_each_node_and_an_archive_of_these_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for node in ["node1", "node2"] {
            fs::create_dir(folder.path().join(node)).unwrap();
            fs::write(folder.path().join(node).join("ip-route.txt"), ROUTES).unwrap();
        }
        assert_eq!(names(&read(folder.path()).unwrap()), ["node1", "node2"]);
        let files: [(&str, &[u8]); 2] =
            [("all/node1/r", ROUTES.as_bytes()), ("all/node2/r", ROUTES.as_bytes())];
        for bytes in [archive(&files), compressed(&archive(&files))] {
            assert_eq!(names(&read(written(&bytes).path()).unwrap()), ["node1", "node2"]);
        }
        let single = written(&compressed(ROUTES.as_bytes()));
        assert_eq!(read(single.path()).unwrap()[0].routes.len(), 2);
    }

    #[test]
    fn what_is_nothing_of_that_is_said_in_one_line() {
        let newer = Sample { format_version: FORMAT_VERSION + 1, ..Sample::default() };
        let newer = serde_json::to_vec(&newer).unwrap();
        let bomb = compressed(&vec![0; usize::try_from(LARGEST).unwrap() + 1]);
        let nested = archive(&[("inner.tar", &archive(&[("a", b"a")]))]);
        let binary: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        for (bytes, expected) in [
            (&b""[..], "nothing recognised"),
            (b"{}", "missing field"),
            ("{".repeat(100_000).as_bytes(), "it is no sample"),
            (format!("{{\"links\":{}", "[".repeat(100_000)).as_bytes(), "it is no sample"),
            (b"hello", "accepted: outputs of ip route"),
            (&newer, "use a newer one"),
            (&bomb, "larger than 256 MiB"),
            (&nested, "an archive within an archive"),
            (&binary, "nothing recognised"),
            (&compressed(&compressed(b"a")), "compressed twice"),
            (&[0x1f, 0x8b, 8, 0], "cannot read"),
        ] {
            let error = complaint(written(bytes).path());
            assert!(error.contains(expected), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(complaint(folder.path()).contains("nothing recognised in no file"));
        for name in ["a", "b", "c", "d"] {
            fs::write(folder.path().join(name), "hello").unwrap();
        }
        assert!(complaint(folder.path()).contains("4 files (a, b, c, …)"));
        assert!(complaint(Path::new("/nonexistent")).contains("/nonexistent"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..3) {
            let mut bytes = bytes;
            match kind {
                1 => bytes.splice(0..0, GZIP).for_each(drop),
                2 if bytes.len() > 262 => bytes.splice(257..262, *b"ustar").for_each(drop),
                _ => {}
            }
            let _ = read(written(&bytes).path());
        }
    }
}
