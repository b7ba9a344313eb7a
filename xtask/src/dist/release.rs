//! What is released: which version, of which commit, of when.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use crate::command;

#[derive(Clone, Debug)]
pub struct Release {
    pub version: String,
    /// Absent where the files are not those of a commit.
    pub commit: Option<String>,
    /// Seconds since 1970, which every file bears: `$SOURCE_DATE_EPOCH`, else the time of the commit.
    pub time: u32,
}

impl Release {
    /// Of the sources in this folder.
    pub fn of(root: &Path) -> Result<Self> {
        let git =
            |arguments: &[&str]| command::output(Command::new("git").arg("-C").arg(root).args(arguments));
        let head = git(&["log", "-1", "--format=%H %ct"]).ok();
        let clean = git(&["status", "--porcelain"]).is_ok_and(|changes| changes.is_empty());
        if !clean {
            eprintln!("dist: the files are not those of a commit, and the program will not name one");
        }
        let (commit, committed) = match head.as_deref().and_then(|head| head.trim().split_once(' ')) {
            Some((commit, time)) => (Some(commit.to_owned()).filter(|_| clean), Some(time.to_owned())),
            None => (None, None),
        };
        let time = env::var("SOURCE_DATE_EPOCH").ok().or(committed).context(
            "there is no commit here whose time the files could bear: give one in SOURCE_DATE_EPOCH, in seconds",
        )?;
        let time = time.parse().with_context(|| format!("`{time}` are no seconds since 1970"))?;
        Ok(Self { version: env!("CARGO_PKG_VERSION").to_owned(), commit, time })
    }

    /// The time as RFC 3339 has it, UTC.
    pub fn rfc3339(&self) -> String {
        let time = UNIX_EPOCH + Duration::from_secs(self.time.into());
        humantime::format_rfc3339_seconds(time).to_string()
    }
}
