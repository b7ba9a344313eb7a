//! The framing of BIRD's control protocol: each line of a reply is `NNNN-text` where more follow and `NNNN text`
//! where it is the last; a line that begins with a blank goes on under the last code, `+` is not asked for.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// The attributes of 50,000 routes take about this.
const LARGEST_REPLY: usize = 32 << 20;
const LONGEST_LINE: usize = 4096;
/// Codes from here on are errors: 8xxx at run time, 9xxx of the parser.
const FIRST_ERROR: u16 = 8000;

/// One conversation with BIRD.
pub struct Session {
    stream: BufReader<UnixStream>,
}

impl Session {
    /// Connects; BIRD greets with its version.
    pub async fn open(path: &Path) -> anyhow::Result<(Self, Option<String>)> {
        let stream = UnixStream::connect(path).await.context("it accepts no connection")?;
        let mut session = Self { stream: BufReader::new(stream) };
        let greeting = session.reply().await?;
        let version = greeting.trim().strip_prefix("BIRD ").and_then(|rest| rest.split(' ').next());
        let version = version.map(str::to_owned);
        Ok((session, version))
    }

    /// Sends a command and returns the text of its reply, without the codes.
    pub async fn command(&mut self, command: &str) -> anyhow::Result<String> {
        self.stream.write_all(format!("{command}\n").as_bytes()).await.context("it closed the connection")?;
        self.reply().await.with_context(|| format!("`{command}`"))
    }

    async fn reply(&mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            let (line, is_last) = match Line::read(&line)? {
                Line::Unasked => continue,
                Line::Continued(rest) => (rest, false),
                Line::Coded { code, is_last, rest } => {
                    ensure!(code < FIRST_ERROR, "it refused with {code}: {rest}");
                    (rest, is_last)
                }
            };
            ensure!(
                text.len() + line.len() < LARGEST_REPLY,
                "its reply is larger than {LARGEST_REPLY} bytes"
            );
            text.push_str(line);
            text.push('\n');
            if is_last {
                return Ok(text);
            }
        }
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST_LINE as u64);
        limited.read_until(b'\n', &mut bytes).await.context("it stopped answering")?;
        match bytes.last() {
            None => bail!("it closed the connection before its reply was complete"),
            Some(b'\n') => bytes.pop(),
            Some(_) if bytes.len() == LONGEST_LINE => bail!("a line is longer than {LONGEST_LINE} bytes"),
            Some(_) => bail!("it closed the connection in the middle of a line"),
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Coded { code: u16, is_last: bool, rest: &'a str },
    Continued(&'a str),
    Unasked,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> anyhow::Result<Self> {
        match line.as_bytes().first() {
            Some(b'+') => return Ok(Self::Unasked),
            Some(b' ') => return Ok(Self::Continued(&line[1..])),
            _ => {}
        }
        let code = line.get(..4).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        let coded = code.and_then(|code| code.parse().ok()).zip(line.get(4..5));
        let is_last = match coded {
            Some((_, " ")) => true,
            Some((_, "-")) => false,
            _ => bail!("its answer is not that of a BIRD"),
        };
        let code = coded.map_or(0, |(code, _)| code);
        Ok(Self::Coded { code, is_last, rest: line.get(5..).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn lines_are_read_as_bird_writes_them() {
        let coded = |code, is_last, rest| Line::Coded { code, is_last, rest };
        assert_eq!(Line::read("1002-static1  Static").unwrap(), coded(1002, false, "static1  Static"));
        assert_eq!(Line::read("0000 ").unwrap(), coded(0, true, ""));
        assert_eq!(Line::read("   Preference: 100").unwrap(), Line::Continued("  Preference: 100"));
        assert_eq!(Line::read("+event").unwrap(), Line::Unasked);
        assert!(Line::read("HTTP/1.1 400").is_err());
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in any::<String>()) {
            let _ = Line::read(&line);
        }
    }

    /// What a peer that answers so is told to be.
    async fn complaint(answer: Vec<u8>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bird.ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The reader may have given up already.
            let _ = stream.write_all(&answer).await;
        };
        let ((), opened) = tokio::join!(peer, Session::open(&path));
        opened.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_peer_that_is_no_bird_is_told_apart() {
        for (answer, expected) in [
            (b"0001 BIRD v0.3.3+birdv1.6.8 ready.\n".to_vec(), ""),
            (b"".to_vec(), "closed the connection before"),
            (b"0001-BIRD".to_vec(), "in the middle of a line"),
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not that of a BIRD"),
            (vec![b'7'; 1 << 20], "a line is longer"),
            (b"9001 syntax error\n".to_vec(), "it refused with 9001"),
            (b"1000-a rather long line of BIRD\n".repeat(2 << 20), "its reply is larger"),
        ] {
            let told = complaint(answer).await;
            assert!(told.contains(expected), "{told}");
            assert_eq!(told.is_empty(), expected.is_empty(), "{told}");
        }
    }
}
