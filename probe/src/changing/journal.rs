//! What a clean-up is about to do and has done: a line of JSON each, on the disk before the step is taken. Whatever
//! ends the process, the journal says what is to be put back.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, Flock, FlockArg, fallocate},
};
use serde::{Deserialize, Serialize};

use super::steps::Before;
use crate::sample::NodeIdentity;

/// Where it is, under the host's root folder.
pub const FOLDER: &str = "var/lib/caliprobe/cleanup";

const JOURNAL: &str = "journal.jsonl";
const LOCK: &str = "lock";
pub const FORMAT_VERSION: u32 = 1;
/// Of a journal that is read: thousands of steps.
const LARGEST: u64 = 64 << 20;
/// What is reserved on the disk, so that no step finds it full: bytes in all, and for each step.
const RESERVED: u64 = 64 << 10;
const RESERVED_FOR_STEP: u64 = 32 << 10;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    Begun(Begun),
    /// About to be done.
    Doing {
        step: usize,
        words: String,
        before: Before,
    },
    Done {
        step: usize,
    },
    /// Every step is done, and nothing got worse.
    Applied {
        time: String,
    },
    /// Kept, by a person who says that all is well.
    Confirmed {
        time: String,
    },
    /// From here on everything is put back.
    PuttingBack {
        time: String,
        why: String,
    },
    /// What is said of a step's thing that cannot be put back.
    PutBack {
        step: usize,
        problem: Option<String>,
    },
    /// Everything that can be is put back.
    Undone {
        time: String,
    },
}

/// What a journal begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub format_version: u32,
    /// RFC 3339, UTC.
    pub time: String,
    pub node: String,
    pub boot_id: String,
    pub network_namespace: u64,
    /// The file that holds the node's state of before.
    pub snapshot: String,
    /// How many.
    pub steps: usize,
    /// Within how many milliseconds it is to be confirmed, or everything is put back.
    pub confirm_within: Option<u64>,
}

/// Where a clean-up stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the midst of it.
    Unfinished,
    /// Done, and to be confirmed.
    Awaiting,
    Applied,
    Confirmed,
    Undone,
}

/// Nobody else carries out, confirms or undoes a clean-up of this node while it lives.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Fails where another has it. The folder is made where there is none.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        Self::with(folder, FlockArg::LockExclusiveNonblock)
    }

    /// Waits until nobody else has it.
    pub fn wait(folder: &Path) -> anyhow::Result<Self> {
        Self::with(folder, FlockArg::LockExclusive)
    }

    fn with(folder: &Path, how: FlockArg) -> anyhow::Result<Self> {
        let path = folder.join(LOCK);
        let file = make_folder(folder)
            .and_then(|()| {
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)
            })
            .with_context(|| format!("cannot open {}", path.display()))?;
        match Flock::lock(file, how) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!("another caliprobe is cleaning up on this node just now")
            }
            Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A journal that is written, or goes on being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    pub begun: Begun,
    /// What was about to be done, the oldest first.
    doing: BTreeMap<usize, (String, Before)>,
    /// Of what is put back.
    put_back: BTreeMap<usize, Option<String>>,
    pub standing: Standing,
}

impl Journal {
    /// Begins one in place of one that is over. Room for all of it is reserved.
    pub fn begin(folder: &Path, begun: Begun) -> anyhow::Result<Self> {
        let path = folder.join(JOURNAL);
        let making = folder.join(format!("{JOURNAL}.new"));
        let make = || -> anyhow::Result<File> {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&making)
                .with_context(|| format!("cannot write {}", making.display()))?;
            file.set_len(0)?;
            let room = RESERVED + RESERVED_FOR_STEP * u64::try_from(begun.steps)?;
            reserve(&file, room)
                .with_context(|| format!("no room for the journal in {}", folder.display()))?;
            append(&mut file, &Entry::Begun(begun.clone()))?;
            fs::rename(&making, &path)?;
            sync_folder(folder)?;
            Ok(file)
        };
        let file = make().inspect_err(|_| drop(fs::remove_file(&making)))?;
        Ok(Self {
            path,
            file,
            begun,
            doing: BTreeMap::new(),
            put_back: BTreeMap::new(),
            standing: Standing::Unfinished,
        })
    }

    /// Opens the one that is there; `None` where there is none.
    pub fn open(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(JOURNAL);
        let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        let mut bytes = Vec::new();
        io::Read::by_ref(&mut file).take(LARGEST + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= LARGEST, "{} is larger than any journal", path.display());
        let (entries, whole) = read(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
        // A line that was cut off by a crash was of a step that was not taken.
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        let mut entries = entries.into_iter();
        let Some(Entry::Begun(begun)) = entries.next() else {
            bail!("{} does not begin as a journal does", path.display());
        };
        ensure!(
            begun.format_version == FORMAT_VERSION,
            "{} has format version {}; this caliprobe knows {FORMAT_VERSION}",
            path.display(),
            begun.format_version
        );
        let mut journal = Self {
            path,
            file,
            begun,
            doing: BTreeMap::new(),
            put_back: BTreeMap::new(),
            standing: Standing::Unfinished,
        };
        entries.for_each(|entry| journal.account(entry));
        Ok(Some(journal))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is of this boot and this network namespace: what it speaks of has ended with any other.
    pub fn is_of(&self, node: &NodeIdentity) -> bool {
        self.begun.boot_id == node.boot_id && self.begun.network_namespace == node.network_namespace
    }

    /// On the disk when this returns.
    pub fn write(&mut self, entry: Entry) -> anyhow::Result<()> {
        append(&mut self.file, &entry).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.account(entry);
        Ok(())
    }

    fn account(&mut self, entry: Entry) {
        match entry {
            Entry::Begun(_) | Entry::Done { .. } => {}
            Entry::Doing { step, words, before } => drop(self.doing.insert(step, (words, before))),
            Entry::Applied { .. } if self.begun.confirm_within.is_some() => {
                self.standing = Standing::Awaiting;
            }
            Entry::Applied { .. } => self.standing = Standing::Applied,
            Entry::Confirmed { .. } => self.standing = Standing::Confirmed,
            Entry::PuttingBack { .. } => self.standing = Standing::Unfinished,
            Entry::PutBack { step, problem } => drop(self.put_back.insert(step, problem)),
            Entry::Undone { .. } => self.standing = Standing::Undone,
        }
    }

    /// The steps that are to be put back, the newest first.
    pub fn to_put_back(&self) -> Vec<(usize, String, Before)> {
        let left = self.doing.iter().filter(|(step, _)| !self.put_back.contains_key(step));
        left.rev().map(|(step, (words, before))| (*step, words.clone(), before.clone())).collect()
    }

    /// Why the thing of a step cannot be put back.
    pub fn problem(&self, step: usize) -> Option<String> {
        self.put_back.get(&step).cloned().flatten()
    }

    /// What was put back, the newest first, and what is to be said of it.
    pub fn is_put_back(&self) -> Vec<(String, Option<String>)> {
        let of = |step: &usize| self.doing.get(step).map(|(words, _)| words.clone());
        let steps = self.put_back.iter().rev();
        steps.filter_map(|(step, problem)| Some((of(step)?, problem.clone()))).collect()
    }
}

/// The entries, and how many bytes they take: the last line may be cut off.
fn read(bytes: &[u8]) -> anyhow::Result<(Vec<Entry>, usize)> {
    let mut entries = Vec::new();
    let mut whole = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(line_without_end) = line.strip_suffix(b"\n") else { break };
        entries.push(serde_json::from_slice(line_without_end)?);
        whole += line.len();
    }
    Ok((entries, whole))
}

fn append(file: &mut File, entry: &Entry) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(())
}

/// Takes room on the disk, where the file system can do that.
pub fn reserve(file: &File, bytes: u64) -> anyhow::Result<()> {
    match fallocate(file.as_fd(), FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, i64::try_from(bytes)?) {
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// So that a new name in it is on the disk.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begun() -> Begun {
        Begun {
            format_version: FORMAT_VERSION,
            time: "2018-06-27T08:12:13Z".to_owned(),
            node: "paas-188".to_owned(),
            boot_id: "b".to_owned(),
            network_namespace: 1,
            snapshot: String::new(),
            steps: 2,
            confirm_within: None,
        }
    }

    fn doing(step: usize) -> Entry {
        Entry::Doing {
            step,
            words: format!("step {step}"),
            before: Before::Device { name: "cali0".to_owned() },
        }
    }

    #[test]
    fn what_was_begun_is_to_be_put_back_the_newest_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(folder.path(), begun()).unwrap();
        for entry in [doing(0), Entry::Done { step: 0 }, doing(1)] {
            journal.write(entry).unwrap();
        }
        drop(journal);
        let mut journal = Journal::open(folder.path()).unwrap().unwrap();
        let left = |journal: &Journal| journal.to_put_back().iter().map(|left| left.0).collect::<Vec<_>>();
        assert_eq!((journal.standing, left(&journal)), (Standing::Unfinished, vec![1, 0]));
        journal.write(Entry::PutBack { step: 1, problem: None }).unwrap();
        let journal = Journal::open(folder.path()).unwrap().unwrap();
        assert_eq!(left(&journal), [0]);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_was_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(folder.path(), begun()).unwrap();
        journal.write(doing(0)).unwrap();
        let path = folder.path().join(JOURNAL);
        let whole = fs::metadata(&path).unwrap().len();
        for cut in 1..60 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - cut).unwrap();
            let mut journal = Journal::open(folder.path()).unwrap().unwrap();
            assert!(journal.to_put_back().is_empty());
            journal.write(doing(0)).unwrap();
            assert_eq!(Journal::open(folder.path()).unwrap().unwrap().to_put_back().len(), 1);
        }
    }

    #[test]
    fn two_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        assert!(Lock::take(folder.path()).unwrap_err().to_string().contains("another caliprobe"));
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }
    }
}
