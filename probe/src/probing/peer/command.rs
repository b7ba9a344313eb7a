//! A command of the caller's that runs `caliprobe observe` on another node: `ssh NODE caliprobe`, `kubectl exec -i POD
//! -- caliprobe`. It watches until its standard input ends.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{
    LONGEST_WATCH,
    answer::{LONGEST_DOCUMENT, LONGEST_READY, read_answer, read_ready, shown},
};
use crate::{diagnosis::FarEnd, probing::marks::Marks};

/// Until a command that has nothing more to say is gone.
const ENDING: Duration = Duration::from_secs(1);
/// How much of what it says beside its answer is kept.
const LAST_WORDS: usize = 4096;

/// The program and its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCommand(Vec<String>);

impl PeerCommand {
    /// Reads words as a shell does; nothing else of a shell is done.
    pub fn parse(text: &str) -> Result<Self, String> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self(words)),
            Some(_) => Err("is empty; it is a command such as 'ssh NODE caliprobe'".to_owned()),
            None => Err("has a quotation mark without its other half".to_owned()),
        }
    }

    fn name(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

/// The process is killed when this is dropped.
pub struct RunningCommand {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it said on standard error, once that has ended.
    last_words: JoinHandle<String>,
}

impl RunningCommand {
    pub fn start(
        words: &PeerCommand,
        flow: &Marks,
        length: Duration,
        without_bpf: bool,
    ) -> anyhow::Result<Self> {
        let PeerCommand(parts) = words;
        let (program, arguments) = parts.split_first().context("no command was given")?;
        let length = length.min(LONGEST_WATCH).as_secs().max(1);
        let mut command = Command::new(program);
        command.args(arguments).args(["observe", "--flow"]).arg(flow.to_string());
        command.args(["--for", &format!("{length}s"), "-o", "json"]);
        if without_bpf {
            command.arg("--no-bpf");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", words.name()))?;
        let stderr = child.stderr.take().context("no standard error")?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(stdout),
            last_words: tokio::spawn(last_words(stderr)),
            child,
        })
    }

    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let mut line = Vec::new();
        (&mut self.output).take(LONGEST_READY as u64).read_until(b'\n', &mut line).await?;
        read_ready(&line)
    }

    pub async fn answer(&mut self) -> anyhow::Result<FarEnd> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended before the probes did ({status}): does it pass its standard input on?");
        }
        drop(self.input.take());
        let mut text = Vec::new();
        (&mut self.output).take(LONGEST_DOCUMENT as u64 + 1).read_to_end(&mut text).await?;
        ensure!(text.len() <= LONGEST_DOCUMENT, "its answer is longer than {} MiB", LONGEST_DOCUMENT >> 20);
        let status = timeout(ENDING, self.child.wait()).await.context("it answered and does not end")??;
        ensure!(status.success(), "it failed ({status})");
        read_answer(&text)
    }

    /// Ends it, and adds to an error what it said last.
    pub async fn explain(&mut self, error: &anyhow::Error) -> String {
        // It is mostly gone already, and then it has said why.
        let gone = timeout(ENDING, self.child.wait()).await.is_ok();
        if !gone {
            let _ = self.child.start_kill();
        }
        let said = timeout(ENDING, &mut self.last_words).await;
        match said.ok().and_then(Result::ok).filter(|said| !said.is_empty()) {
            Some(said) => format!("{error:#}; it said: {said}"),
            None => format!("{error:#}"),
        }
    }
}

async fn last_words(mut stderr: ChildStderr) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length]);
        let too_many = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..too_many);
    }
    let text = String::from_utf8_lossy(&kept);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    shown(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_into_the_words_that_a_shell_sees() {
        let words = |text| PeerCommand::parse(text).map(|PeerCommand(words)| words);
        assert_eq!(words("ssh 'a b' caliprobe").unwrap(), ["ssh", "a b", "caliprobe"]);
        assert!(words("  ").is_err());
        assert!(words("ssh 'node").is_err());
    }
}
