//! What `--input` and `cluster` accept: saved samples, pasted outputs in files, in a folder for each node or in an
//! archive of these, bundles, and all of it on standard input.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Cursor, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::pasted::{self, Text};
use crate::sample::{FORMAT_VERSION, Sample};

/// A sample of 100,000 routes has a tenth of this. All that is held of one input at once.
const LARGEST: u64 = 256 << 20;
/// Files of one input.
const MOST_FILES: usize = 10_000;
/// A folder of clusters with a folder for each node, with folders by kind.
const DEEPEST: usize = 4;
/// An archive of bundles, which are archives themselves.
const MOST_ARCHIVES: usize = 2;
/// How many files an error names.
const NAMED_FILES: usize = 3;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// `ustar`, in the header of a tape archive's first file.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");
/// What tells a gzip file or an archive from the rest lies within so much of its beginning.
const HEAD: u64 = 512;

/// In a bundle, the list of what it holds, which comes first, and the one file of it that is judged.
pub const BUNDLE_LIST: &str = "bundle.json";
pub const BUNDLE_SNAPSHOT: &str = "snapshot.json";

/// Something that an input holds.
pub enum Found {
    /// A file that begins as a saved sample does; [`parse`] reads it.
    Saved { file: String, bytes: Vec<u8> },
    /// What the outputs that were pasted show, after everything else.
    Pasted(Vec<Sample>),
    /// A file, an archive or a folder that is left out, and why.
    Unreadable { file: String, why: anyhow::Error },
}

/// Reads all samples of an input, at least one; the error says what it holds instead.
pub fn read(path: &Path) -> anyhow::Result<Vec<Sample>> {
    let (samples, files) = collect(|take| each(path, take))?;
    if samples.is_empty() {
        bail!("{}: {}", path.display(), nothing_recognised(&files));
    }
    Ok(samples)
}

/// Reads any bytes as if they were a file of an input; there may be no sample in them.
pub fn read_bytes(mut bytes: &[u8]) -> anyhow::Result<Vec<Sample>> {
    Ok(collect(|take| each_of_stream("input", &mut bytes, take))?.0)
}

/// All samples that a walk gives, and the names of its files; the first failure ends it.
fn collect(
    walk: impl FnOnce(&mut dyn FnMut(Found) -> ControlFlow<()>) -> Vec<String>,
) -> anyhow::Result<(Vec<Sample>, Vec<String>)> {
    let (mut samples, mut held, mut failure) = (Vec::new(), 0, None);
    let files = walk(&mut |found| {
        let more = match found {
            Found::Saved { file, bytes } => {
                held += bytes.len() as u64;
                let too_large = || anyhow!("{file}: the input is larger than {} MiB", LARGEST >> 20);
                if held > LARGEST {
                    Err(too_large())
                } else {
                    parse(&bytes).map(|sample| vec![sample]).context(file)
                }
            }
            Found::Pasted(more) => Ok(more),
            Found::Unreadable { why, .. } => Err(why),
        };
        match more {
            Ok(more) => samples.extend(more),
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok((samples, files)),
    }
}

/// Writes a sample as [`write_whole`] does.
pub fn write_sample(file: &Path, sample: &Sample) -> anyhow::Result<u64> {
    write_whole(file, |writer| Ok(serde_json::to_writer(writer, sample)?))
}

/// Writes a file, all of it or nothing: it gets its name once it is on the disk, and no file of that name is lost.
/// Returns how many bytes it has.
pub fn write_whole(
    file: &Path,
    write: impl FnOnce(&mut BufWriter<tempfile::NamedTempFile>) -> io::Result<()>,
) -> anyhow::Result<u64> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut writer = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
    write(&mut writer)?;
    let unnamed = writer.into_inner()?;
    unnamed.as_file().sync_all()?;
    let bytes = unnamed.as_file().metadata()?.len();
    unnamed.persist_noclobber(file)?;
    // The name too.
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}

/// Says of files in which nothing was found what would be accepted.
pub fn nothing_recognised(files: &[String]) -> String {
    let named: Vec<&str> = files.iter().take(NAMED_FILES).map(String::as_str).collect();
    let more = if files.len() > NAMED_FILES { ", …" } else { "" };
    let found = match files.len() {
        0 => "no file".to_owned(),
        1 => named.join(""),
        count => format!("{count} files ({}{more})", named.join(", ")),
    };
    format!("nothing recognised in {found}; accepted: {}, or a saved sample", pasted::ACCEPTED)
}

/// Reads a saved sample.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Sample> {
    let sample: Sample = serde_json::from_slice(bytes).context("it is no sample of caliprobe")?;
    ensure!(
        sample.format_version <= FORMAT_VERSION,
        "it has format version {}; this caliprobe knows {FORMAT_VERSION}: use a newer one",
        sample.format_version
    );
    Ok(sample)
}

/// Gives everything that an input holds to `take`, one after another, so that not all of it is held at once, until
/// `take` has enough; comes to the names of the files. What cannot be read is given too, and the rest goes on.
pub fn each(path: &Path, take: &mut dyn FnMut(Found) -> ControlFlow<()>) -> Vec<String> {
    if path == Path::new("-") {
        return each_of_stream("standard input", &mut io::stdin().lock(), take);
    }
    let mut walk = Walk::new(take);
    let outcome = walk.path(path, &PathBuf::new(), 0);
    let outcome = outcome.with_context(|| format!("cannot read {}", path.display()));
    walk.or_unreadable(&path.display().to_string(), outcome);
    walk.end()
}

/// The same of what comes from a stream.
fn each_of_stream(
    name: &str,
    stream: &mut dyn Read,
    take: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> Vec<String> {
    let mut walk = Walk::new(take);
    let outcome = walk.add(&Place::of_file(Path::new(name)), stream, Around::NOTHING);
    walk.or_unreadable(name, outcome);
    walk.end()
}

/// Where a file lies within an input.
struct Place {
    /// Its folder, or itself where it lies in none.
    folder: String,
    file: String,
    /// With all folders, and the archive before a colon.
    path: PathBuf,
}

impl Place {
    fn of_file(path: &Path) -> Self {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let file = name(path).unwrap_or_default();
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self { folder: path.parent().and_then(name).unwrap_or_else(stem), file, path: path.to_owned() }
    }
}

/// What is around a file.
#[derive(Clone, Copy)]
struct Around {
    compressed: bool,
    archives: usize,
}

impl Around {
    const NOTHING: Self = Self { compressed: false, archives: 0 };
}

/// A way through an input.
struct Walk<'a> {
    take: &'a mut dyn FnMut(Found) -> ControlFlow<()>,
    has_enough: bool,
    /// What may have been pasted; outputs of one node may lie in several files.
    texts: Vec<Text>,
    text_bytes: u64,
    files: Vec<String>,
    /// Folders that are bundles.
    bundles: BTreeSet<PathBuf>,
}

impl<'a> Walk<'a> {
    fn new(take: &'a mut dyn FnMut(Found) -> ControlFlow<()>) -> Self {
        Self {
            take,
            has_enough: false,
            texts: Vec::new(),
            text_bytes: 0,
            files: Vec::new(),
            bundles: BTreeSet::new(),
        }
    }

    /// Gives what was pasted; comes to the names of the files.
    fn end(mut self) -> Vec<String> {
        if !self.has_enough {
            let shown = pasted::read(&self.texts);
            self.give(Found::Pasted(shown));
        }
        self.files
    }

    /// Reads a file, or everything within a folder in the order of the names.
    fn path(&mut self, path: &Path, within: &Path, depth: usize) -> anyhow::Result<()> {
        let inside = within.join(path.file_name().map(PathBuf::from).unwrap_or_default());
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
                if self.has_enough {
                    break;
                }
                let outcome = self.path(&entry, &inside, depth + 1);
                self.or_unreadable(&entry.display().to_string(), outcome);
            }
            return Ok(());
        }
        if !about.is_file() && depth > 0 {
            return Ok(());
        }
        self.add(&Place::of_file(&inside), &mut File::open(path)?, Around::NOTHING)
    }

    fn or_unreadable(&mut self, file: &str, outcome: anyhow::Result<()>) {
        if let Err(why) = outcome {
            self.give(Found::Unreadable { file: file.to_owned(), why });
        }
    }

    fn give(&mut self, found: Found) {
        if !self.has_enough {
            self.has_enough = (self.take)(found).is_break();
        }
    }

    fn add(&mut self, place: &Place, reader: &mut dyn Read, around: Around) -> anyhow::Result<()> {
        let mut head = Vec::new();
        Read::take(&mut *reader, HEAD)
            .read_to_end(&mut head)
            .with_context(|| format!("cannot read {}", place.file))?;
        let is_gzip = head.starts_with(&GZIP);
        let is_archive = is_archive(&head);
        let mut whole = Cursor::new(head).chain(reader);
        if is_gzip {
            ensure!(!around.compressed, "{}: compressed twice", place.file);
            return self.add(place, &mut MultiGzDecoder::new(whole), Around { compressed: true, ..around });
        }
        if is_archive {
            ensure!(around.archives < MOST_ARCHIVES, "{}: an archive within archives", place.file);
            return self.unpack(place, &mut whole, around.archives + 1);
        }
        self.file(place, &mut whole)
    }

    fn file(&mut self, place: &Place, reader: &mut dyn Read) -> anyhow::Result<()> {
        ensure!(self.files.len() < MOST_FILES, "the input has more than {MOST_FILES} files");
        let folder = place.path.parent().map(Path::to_owned).unwrap_or_default();
        if self.bundles.contains(&folder) && place.file != BUNDLE_SNAPSHOT {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let left = LARGEST - self.text_bytes;
        reader
            .take(left + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", place.file))?;
        ensure!(bytes.len() as u64 <= left, "{}: the input is larger than {} MiB", place.file, LARGEST >> 20);
        if place.file == BUNDLE_LIST && is_bundle_list(&bytes) {
            self.bundles.insert(folder);
            return Ok(());
        }
        self.files.push(place.file.clone());
        if is_sample(&bytes) {
            self.give(Found::Saved { file: place.path.display().to_string(), bytes });
            return Ok(());
        }
        self.text_bytes += bytes.len() as u64;
        // What is not text is not recognised either.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.texts.push(Text { place: place.folder.clone(), file: place.file.clone(), text });
        Ok(())
    }

    /// The files of an archive; none is written anywhere.
    fn unpack(&mut self, archive: &Place, reader: &mut dyn Read, archives: usize) -> anyhow::Result<()> {
        let mut entries = tar::Archive::new(reader);
        let entries = entries.entries().with_context(|| format!("cannot read {}", archive.file))?;
        for entry in entries {
            if self.has_enough {
                break;
            }
            let mut entry = entry.with_context(|| format!("cannot read {}", archive.file))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let mut place = Place::of_file(&entry.path().unwrap_or_default());
            let shown = format!("{}: {}", archive.path.display(), place.path.display());
            place.path = archive.path.join(&place.path);
            let outcome = self.add(&place, &mut entry, Around { compressed: false, archives });
            self.or_unreadable(&shown, outcome);
        }
        Ok(())
    }
}

fn is_archive(head: &[u8]) -> bool {
    let (at, magic) = TAR_MAGIC;
    head.get(at..at + magic.len()) == Some(magic)
}

/// No output that is read begins with a brace.
fn is_sample(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

fn is_bundle_list(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct List {
        command: String,
    }
    serde_json::from_slice::<List>(bytes).is_ok_and(|list| list.command == "bundle")
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
        let within = |bytes: &[u8]| compressed(&archive(&[("inner.tar", bytes)]));
        let nested = within(&within(&within(b"a")));
        let binary: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        for (bytes, expected) in [
            (&b""[..], "nothing recognised"),
            (b"{}", "missing field"),
            ("{".repeat(100_000).as_bytes(), "it is no sample"),
            (format!("{{\"links\":{}", "[".repeat(100_000)).as_bytes(), "it is no sample"),
            (b"hello", "accepted: outputs of ip route"),
            (&newer, "use a newer one"),
            (&bomb, "larger than 256 MiB"),
            (&nested, "an archive within archives"),
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
