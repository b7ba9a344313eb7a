//! The target's node, asked by a command of the caller's (`ssh NODE caliprobe`, `kubectl exec -i POD -- caliprobe`)
//! that runs `caliprobe observe` there: it says when it is ready, watches until its standard input ends, and leaves
//! one document. Whoever answers may say anything, at any length, or nothing at all.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{follow::MOST_KEPT, marks::Marks};
use crate::{
    diagnosis::FarEnd,
    report::{
        document::SCHEMA_VERSION,
        text::{printable, shorten},
    },
    sample::FORMAT_VERSION,
};

/// From its start until it watches: connecting, looking at that node, loading the programs.
const STARTING: Duration = Duration::from_secs(20);
/// From the end of the probes until its document is there.
const ANSWERING: Duration = Duration::from_secs(20);
/// Until a command that has nothing more to say is gone.
const ENDING: Duration = Duration::from_secs(1);
/// The longest line that says that it is ready.
const LONGEST_READY: u64 = 4096;
/// The longest document: two looks at a node with 100,000 routes.
const LONGEST_DOCUMENT: u64 = 64 << 20;
/// How much of what it says beside its answer is kept.
const LAST_WORDS: usize = 4096;
/// How much of what it said is shown.
const SHOWN: usize = 160;
/// The longest that `observe` watches.
pub const LONGEST_WATCH: Duration = Duration::from_mins(1);

/// A command that runs `caliprobe observe` on another node, which has said that it is ready.
pub struct Peer {
    command: RunningCommand,
}

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

impl Peer {
    /// Starts the command and waits until it watches for these probes. It is to watch for `length` at most.
    pub async fn start(
        words: &PeerCommand,
        flow: &Marks,
        length: Duration,
        without_bpf: bool,
    ) -> anyhow::Result<Self> {
        let mut command = RunningCommand::start(words, flow, length, without_bpf)?;
        match timeout(STARTING, command.ready()).await {
            Ok(Ok(())) => Ok(Self { command }),
            Ok(Err(error)) => bail!(command.explain(&error).await),
            Err(_) => {
                let error = anyhow::anyhow!("it was not ready after {} s", STARTING.as_secs());
                bail!(command.explain(&error).await)
            }
        }
    }

    /// Ends its watch, and takes what it saw.
    pub async fn finish(mut self) -> anyhow::Result<FarEnd> {
        match timeout(ANSWERING, self.command.answer()).await {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(error)) => bail!(self.command.explain(&error).await),
            Err(_) => {
                let error =
                    anyhow::anyhow!("it did not answer within {} s of the probes", ANSWERING.as_secs());
                bail!(self.command.explain(&error).await)
            }
        }
    }
}

/// The process is killed when this is dropped.
struct RunningCommand {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it said on standard error, once that has ended.
    last_words: JoinHandle<String>,
}

impl RunningCommand {
    fn start(words: &PeerCommand, flow: &Marks, length: Duration, without_bpf: bool) -> anyhow::Result<Self> {
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

    async fn ready(&mut self) -> anyhow::Result<()> {
        let mut line = Vec::new();
        (&mut self.output).take(LONGEST_READY).read_until(b'\n', &mut line).await?;
        read_ready(&line)
    }

    async fn answer(&mut self) -> anyhow::Result<FarEnd> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended before the probes did ({status}): does it pass its standard input on?");
        }
        drop(self.input.take());
        let mut text = Vec::new();
        (&mut self.output).take(LONGEST_DOCUMENT + 1).read_to_end(&mut text).await?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        ensure!(length <= LONGEST_DOCUMENT, "its answer is longer than {} MiB", LONGEST_DOCUMENT >> 20);
        let status = timeout(ENDING, self.child.wait()).await.context("it answered and does not end")??;
        ensure!(status.success(), "it failed ({status})");
        read_answer(&text)
    }

    /// Ends it, and adds to an error what it said last.
    async fn explain(&mut self, error: &anyhow::Error) -> String {
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

/// What it said, fit for a line of a report.
fn shown(text: &str) -> String {
    shorten(&printable(text).replace('\n', " "), SHOWN)
}

fn read_ready(line: &[u8]) -> anyhow::Result<()> {
    ensure!(!line.is_empty(), "it ended without a word that it was ready");
    let said = || shown(String::from_utf8_lossy(line).trim());
    let Ok(Value::Object(value)) = serde_json::from_slice(line) else {
        bail!("it said `{}` where it was to say that it is ready", said());
    };
    if let Some(error) = value.get("error").and_then(|error| error.get("message")).and_then(Value::as_str) {
        bail!("caliprobe there: {}", shown(error));
    }
    ensure!(value.get("ready") == Some(&Value::Bool(true)), "it said `{}`, not that it is ready", said());
    ensure_version(value.get("schema_version").and_then(Value::as_u64))
}

fn ensure_version(version: Option<u64>) -> anyhow::Result<()> {
    let told = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    ensure!(
        version == Some(SCHEMA_VERSION.into()),
        "its documents have version {told}, and this caliprobe reads {SCHEMA_VERSION}"
    );
    Ok(())
}

/// The part of the document of `observe` that verdicts rest on.
#[derive(Deserialize)]
struct Answer {
    schema_version: u64,
    command: String,
    facts: FarEnd,
}

/// Reads what `observe` left.
fn read_answer(text: &[u8]) -> anyhow::Result<FarEnd> {
    ensure!(!text.is_empty(), "it ended without an answer");
    let answer: Answer = serde_json::from_slice(text)
        .map_err(|error| anyhow::anyhow!("its answer is none: {}", shown(&error.to_string())))?;
    ensure_version(Some(answer.schema_version))?;
    ensure!(answer.command == "observe", "it answered `{}` instead of `observe`", shown(&answer.command));
    let FarEnd { before, after, observed } = &answer.facts;
    for sample in [before, after] {
        let version = sample.format_version;
        ensure!(version == FORMAT_VERSION, "its samples have version {version}, not {FORMAT_VERSION}");
    }
    ensure!(
        observed.sightings.len() <= MOST_KEPT && observed.drops.len() <= MOST_KEPT,
        "it saw more packets than any diagnosis sends"
    );
    Ok(answer.facts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{observation::Observation, sample::Sample};

    fn facts() -> FarEnd {
        let sample = Sample { format_version: FORMAT_VERSION, ..Sample::default() };
        FarEnd { before: sample.clone(), after: sample, observed: Observation::default() }
    }

    fn document(command: &str, version: u32, facts: &FarEnd) -> Vec<u8> {
        json!({ "schema_version": version, "command": command, "facts": facts }).to_string().into_bytes()
    }

    fn refusal<T>(result: anyhow::Result<T>) -> String {
        result.map(|_| "taken").map_or_else(|error| format!("{error:#}"), str::to_owned)
    }

    #[test]
    fn an_answer_is_taken_and_every_other_is_refused_with_a_reason() {
        assert_eq!(read_answer(&document("observe", 1, &facts())).unwrap(), facts());
        let newer = Sample { format_version: 7, ..Sample::default() };
        let newer = FarEnd { after: newer, ..facts() };
        for (text, reason) in [
            (document("observe", 2, &facts()), "documents have version 2"),
            (document("check", 1, &facts()), "`check` instead of"),
            (document("observe", 1, &newer), "samples have version 7"),
            (b"{}".to_vec(), "missing field"),
            (b"yes\x1b[2J".to_vec(), "its answer is none"),
            (Vec::new(), "without an answer"),
        ] {
            let refusal = refusal(read_answer(&text));
            assert!(refusal.contains(reason) && !refusal.contains('\x1b'), "{refusal}");
        }
    }

    #[test]
    fn more_packets_than_a_diagnosis_sends_are_refused() {
        let mut facts = facts();
        let drop: crate::observation::DropSighting = serde_json::from_value(json!({
            "reason": null, "symbol": null, "link": 1, "ingress_link": 0, "mark": 0, "namespace": "own",
            "hook": null, "outer": null,
            "packet": { "source": "10.0.0.1", "destination": "10.0.0.2", "protocol": 1, "kind": "echo-request",
                "flow": 0, "sequence": 0 },
        }))
        .unwrap();
        facts.observed.drops = vec![drop; MOST_KEPT + 1];
        assert!(refusal(read_answer(&document("observe", 1, &facts))).contains("more packets"));
    }

    #[test]
    fn only_who_is_ready_is_waited_for() {
        assert!(read_ready(br#"{"ready":true,"schema_version":1}"#).is_ok());
        for (line, reason) in [
            (&b""[..], "without a word"),
            (b"Last login: today\n", "`Last login: today`"),
            (br#"{"ready":"true","schema_version":1}"#, "not that it is ready"),
            (br#"{"ready":true,"schema_version":9}"#, "version 9"),
            (br#"{"ready":true}"#, "version none"),
            (br#"{"error":{"message":"no privileges"}}"#, "caliprobe there: no privileges"),
        ] {
            assert!(refusal(read_ready(line)).contains(reason), "{reason}: {}", refusal(read_ready(line)));
        }
    }

    #[test]
    fn a_command_is_split_into_the_words_that_a_shell_sees() {
        let words = |text| PeerCommand::parse(text).map(|PeerCommand(words)| words);
        assert_eq!(words("ssh 'a b' caliprobe").unwrap(), ["ssh", "a b", "caliprobe"]);
        assert!(words("  ").is_err());
        assert!(words("ssh 'node").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_ready(&bytes);
            let _ = read_answer(&bytes);
        }

        /// A document that was cut or changed anywhere is refused or read, and never worse.
        #[test]
        fn a_damaged_answer_does_no_harm(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut text = document("observe", 1, &facts());
            let place = place.index(text.len());
            if cut { text.truncate(place) } else { text[place] = byte }
            let read = read_answer(&text);
            prop_assert!(!cut || read.is_err());
        }
    }
}
