//! A terminal of tmux, with a server of its own.

use std::{
    env,
    fmt::Write as _,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the screen is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// One window, which ends with this.
pub struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// `None`, said aloud, where tmux is not to be had.
    pub fn open(width: u16, height: u16) -> Result<Option<Self>> {
        let path = env::var_os("PATH").unwrap_or_default();
        if !env::split_paths(&path).any(|folder| folder.join("tmux").is_file()) {
            eprintln!("SKIPPED: there is no tmux; `cargo xtask setup` installs it");
            return Ok(None);
        }
        let terminal = Self { folder: tempfile::tempdir()? };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, "env", "PS1=$ ", "sh"])?;
        Ok(Some(terminal))
    }

    /// A place for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Types keys by their names: `Tab`, `Enter`, `Escape`, or a text as it is.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types a line.
    pub fn run(&self, line: &str) -> Result<()> {
        self.press(&[line, "Enter"])
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        self.tmux(&["resize-window", "-x", &width, "-y", &height]).map(drop)
    }

    /// Waits until the screen is as wanted, and returns it.
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown()?;
            if wanted(&shown) {
                return Ok(shown);
            }
            ensure!(Instant::now() < end, "{what} did not appear; shown is\n{shown}");
            thread::sleep(LOOK);
        }
    }

    /// Waits until the screen holds a text.
    pub fn wait_for(&self, text: &str) -> Result<String> {
        self.wait(text, |shown| shown.contains(text))
    }

    /// What is on the screen, with the sequences that colour it.
    pub fn shown_with_colours(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// The process that runs in front of the shell.
    pub fn process(&self) -> Result<i32> {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(&children).context(children)?;
        children.trim().parse().with_context(|| format!("not one process: {children:?}"))
    }

    fn shown(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.path().join("tmux.sock"))
            .args(["-f", "/dev/null", "-u"])
            .args(arguments)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()?;
        if !status.success() {
            let mut said = String::from_utf8_lossy(&stderr).into_owned();
            let _ = write!(said, " ({arguments:?})");
            bail!("tmux: {said}");
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
