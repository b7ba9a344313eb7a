//! What `ssh` is between real nodes: a program of one machine runs a command on another. The machines share a folder,
//! where each that wants to be reached listens; its kernel hands the standard streams over.

use std::{
    fs,
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
    unistd::gethostname,
};

/// More than the arguments of a command have.
const LONGEST_COMMAND: usize = 65_536;

fn socket(machine: &str) -> PathBuf {
    std::env::temp_dir().join(format!("caliprobe-lab-{machine}.sock"))
}

/// Runs what others send, for as long as the machine lives. Prints a line once it listens.
pub fn listen() -> Result<()> {
    let path = socket(&gethostname()?.to_string_lossy());
    // A machine of this name may have listened before.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("caliprobe-lab: {error:#}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: UnixStream) -> Result<()> {
    let (words, [input, output, errors]) = receive(&mut stream)?;
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    // The streams that it was given are its own alone, so that their ends show.
    drop(command);
    let code = child.wait()?.code().unwrap_or(255);
    Ok(stream.write_all(&code.to_be_bytes())?)
}

fn receive(stream: &mut UnixStream) -> Result<(Vec<String>, [OwnedFd; 3])> {
    let mut text = vec![0; LONGEST_COMMAND];
    let mut space = cmsg_space!([i32; 3]);
    let (length, descriptors) = {
        let mut parts = [IoSliceMut::new(&mut text)];
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut descriptors = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the kernel has just made these descriptors for this process, and nobody else has them.
                descriptors.extend(received.into_iter().map(|one| unsafe { OwnedFd::from_raw_fd(one) }));
            }
        }
        (message.bytes, descriptors)
    };
    text.truncate(length);
    stream.read_to_end(&mut text)?;
    let Ok(streams) = <[OwnedFd; 3]>::try_from(descriptors) else { bail!("no standard streams came") };
    Ok((serde_json::from_slice(&text)?, streams))
}

/// Runs a command on another machine, with this process' standard streams and its exit code.
pub fn run(machine: &str, command: &[String]) -> Result<ExitCode> {
    let path = socket(machine);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("{machine} does not listen ({})", path.display()))?;
    let text = serde_json::to_vec(command)?;
    let streams = [0, 1, 2];
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(&text)],
        &[ControlMessage::ScmRights(&streams)],
        MsgFlags::empty(),
        None,
    )?;
    stream.write_all(&text[sent..])?;
    stream.shutdown(Shutdown::Write)?;
    let mut code = [0; 4];
    stream.read_exact(&mut code).with_context(|| format!("{machine} could not run it"))?;
    Ok(ExitCode::from(u8::try_from(i32::from_be_bytes(code)).unwrap_or(255)))
}
