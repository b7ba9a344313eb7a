//! The events on disk: a line of JSON each, in a file that is put aside when it is full, and one that was put aside.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;

use crate::{
    serving,
    state::{BlackHole, Event, EventKind},
};

/// Where the events are.
pub const FOLDER: &str = "/var/lib/caliprobe";

const CURRENT: &str = "events.jsonl";
const PUT_ASIDE: &str = "events.1.jsonl";
/// Of one file: some thousands of events.
const LARGEST: u64 = 8 << 20;

/// What is written.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: Option<File>,
    /// Events that are not on disk yet, the oldest first.
    waiting: Vec<Event>,
    /// Events that found no room when they came.
    without_room: u64,
    largest: u64,
}

/// Events that wait for room on the disk; what comes then is lost.
const MOST_WAITING: usize = 10_000;

impl Journal {
    /// Opens the files of a folder, which is made where there is none. Black holes that were open when the daemon
    /// before ended are closed: nobody watched them since.
    pub fn open(folder: &Path, clock: Timestamp) -> Self {
        Self::with_size(folder, clock, LARGEST)
    }

    fn with_size(folder: &Path, clock: Timestamp, largest: u64) -> Self {
        let mut journal =
            Self { folder: folder.to_owned(), file: None, waiting: Vec::new(), without_room: 0, largest };
        for black_hole in still_open(folder) {
            let black_hole = BlackHole { closed: Some(clock.to_string()), ..black_hole };
            journal.waiting.push(Event { time: clock.to_string(), kind: EventKind::Closed, black_hole });
        }
        journal.write();
        journal
    }

    /// Keeps an event.
    pub fn enter(&mut self, event: Event) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push(event);
        }
        self.write();
        self.without_room += u64::from(!self.waiting.is_empty());
    }

    /// How many events found no room when they came. Most are written later.
    pub fn without_room(&self) -> u64 {
        self.without_room
    }

    /// Writes what waits. What finds no room is tried again at the next call.
    pub fn write(&mut self) {
        while let Some(event) = self.waiting.first() {
            if let Err(error) = self.append(&event.clone()) {
                tracing::warn!("an event waits for room at {}: {error:#}", self.folder.display());
                self.file = None;
                return;
            }
            self.waiting.remove(0);
        }
    }

    fn append(&mut self, event: &Event) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open_current()?,
        };
        let length = file.metadata()?.len();
        if length > 0 && length + line.len() as u64 > self.largest {
            fs::rename(self.folder.join(CURRENT), self.folder.join(PUT_ASIDE))?;
            file = self.open_current()?;
        }
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(&line) {
            // Half a line would spoil the next one.
            let _ = file.set_len(before);
            return Err(error.into());
        }
        self.file = Some(file);
        Ok(())
    }

    fn open_current(&self) -> anyhow::Result<File> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        let path = self.folder.join(CURRENT);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
        if ends_within_a_line(&path)? {
            file.write_all(b"\n")?;
        }
        Ok(file)
    }
}

/// Whether the machine stopped while a line was written.
fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

/// The events of a folder, the oldest first. Lines that are none are left out.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Event>> {
    Ok(text(folder)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn text(folder: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    for name in [PUT_ASIDE, CURRENT] {
        let path = folder.join(name);
        match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(2 * LARGEST).read_to_end(&mut bytes)?;
                text.push_str(&String::from_utf8_lossy(&bytes));
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(text)
}

fn still_open(folder: &Path) -> Vec<BlackHole> {
    let events = read(folder).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        Vec::new()
    });
    let mut open = BTreeMap::new();
    for (place, event) in events.into_iter().enumerate() {
        match event.kind {
            EventKind::Opened | EventKind::Explained => {
                open.insert(event.black_hole.id.clone(), (place, event.black_hole));
            }
            EventKind::Closed => {
                open.remove(&event.black_hole.id);
            }
        }
    }
    let mut open: Vec<_> = open.into_values().collect();
    open.sort_by_key(|(place, _)| *place);
    open.into_iter().map(|(_, black_hole)| black_hole).collect()
}

/// The folder, as the local API reads it.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl serving::Journal for Folder {
    fn lines(&self) -> anyhow::Result<String> {
        text(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::document::{Subject, SubjectKind};

    fn event(id: &str, kind: EventKind) -> Event {
        let black_hole = BlackHole {
            id: id.to_owned(),
            opened: "2026-11-23T10:00:00Z".to_owned(),
            closed: None,
            cause: None,
            subject: Subject { kind: SubjectKind::Block, value: "10.200.153.64/26".to_owned() },
            place: None,
            summary: "packets are lost".to_owned(),
            packets: 10,
            finding: None,
        };
        Event { time: "2026-11-23T10:00:00Z".to_owned(), kind, black_hole }
    }

    fn kinds(folder: &Path) -> Vec<(String, EventKind)> {
        read(folder).unwrap().into_iter().map(|event| (event.black_hole.id, event.kind)).collect()
    }

    #[test]
    fn what_was_open_at_the_end_is_closed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), Timestamp::UNIX_EPOCH);
        for (id, kind) in [("1", EventKind::Opened), ("2", EventKind::Opened), ("1", EventKind::Closed)] {
            journal.enter(event(id, kind));
        }
        drop(journal);
        Journal::open(folder.path(), Timestamp::UNIX_EPOCH);
        let last = read(folder.path()).unwrap().pop().unwrap();
        assert_eq!((last.kind, last.black_hole.id.as_str()), (EventKind::Closed, "2"));
        assert_eq!(last.black_hole.closed.as_deref(), Some("1970-01-01T00:00:00Z"));
        Journal::open(folder.path(), Timestamp::UNIX_EPOCH);
        assert_eq!(kinds(folder.path()).len(), 4);
    }

    #[test]
    fn two_files_bound_what_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::with_size(folder.path(), Timestamp::UNIX_EPOCH, 2000);
        for number in 0..100 {
            journal.enter(event(&number.to_string(), EventKind::Opened));
        }
        for name in [CURRENT, PUT_ASIDE] {
            assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= 2000);
        }
        assert_eq!(kinds(folder.path()).last().unwrap().0, "99");
    }

    #[test]
    fn events_wait_for_room_and_are_written_then() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("events");
        fs::write(&folder, "a file where the folder should be").unwrap();
        let mut journal = Journal::open(&folder, Timestamp::UNIX_EPOCH);
        journal.enter(event("1", EventKind::Opened));
        assert_eq!(journal.without_room(), 1);
        fs::remove_file(&folder).unwrap();
        journal.enter(event("1", EventKind::Closed));
        assert_eq!(journal.without_room(), 1);
        assert_eq!(kinds(&folder).len(), 2);
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CURRENT), "{\"time\":\"2026").unwrap();
        Journal::open(folder.path(), Timestamp::UNIX_EPOCH).enter(event("1", EventKind::Opened));
        assert_eq!(kinds(folder.path()), [("1".to_owned(), EventKind::Opened)]);
    }

    proptest! {
        #[test]
        fn any_file_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(CURRENT), bytes).unwrap();
            prop_assert!(read(folder.path()).unwrap().is_empty());
        }
    }
}
