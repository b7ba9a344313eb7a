//! Before TCX, filters outlive the process that attached them. A helper process in a session of its own waits for
//! the end of a pipe: when its owner is gone, however that happened, it removes exactly the owner's filters.

use std::{
    io::{self, BufRead as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result};
use nix::{
    net::if_::if_nameindex,
    sys::signal::{SigHandler, Signal, signal},
    unistd::setsid,
};

use super::instance::{PROGRAM_PREFIX, lives};
use crate::sources::traffic_control::{Filter, TrafficControl, Way};

/// The hidden command by which the helper is started.
pub const COMMAND: &str = "janitor";

/// The owner's side.
pub struct Janitor {
    helper: Child,
    pipe: Option<ChildStdin>,
}

impl Janitor {
    pub fn start(handle: u32, keep_clsact: bool) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).arg(handle.to_string()).process_group(0);
        if keep_clsact {
            command.arg("--keep-clsact");
        }
        let mut helper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the helper that cleans up after a kill")?;
        let pipe = helper.stdin.take();
        Ok(Self { helper, pipe })
    }

    /// Tells of a clsact before it is made.
    pub fn announce_clsact(&mut self, link: u32) -> Result<()> {
        let pipe = self.pipe.as_mut().context("the helper is gone")?;
        writeln!(pipe, "{link}").context("the helper that cleans up after a kill is gone")
    }
}

impl Drop for Janitor {
    /// By now nothing is left to remove; the helper ends as it finds nothing.
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.helper.wait();
    }
}

/// The helper's side: waits for the end of standard input, then removes what carries the handle.
pub fn serve(handle: u32, keep_clsact: bool) -> Result<()> {
    // A session of its own, so that what is sent to the owner's terminal or group does not reach it.
    let _ = setsid();
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }.context("cannot ignore a signal")?;
    }
    let mut made: Vec<u32> = Vec::new();
    for line in io::stdin().lock().lines() {
        made.extend(line.context("cannot read standard input")?.trim().parse::<u32>());
    }
    let traffic_control = TrafficControl::open()?;
    for filter in ours(&traffic_control)?.iter().filter(|filter| filter.handle == handle) {
        traffic_control.remove(filter)?;
    }
    if !keep_clsact {
        for link in made {
            traffic_control.remove_empty_clsact(link)?;
        }
    }
    Ok(())
}

/// The filters of every caliprobe, living or dead.
fn ours(traffic_control: &TrafficControl) -> Result<Vec<Filter>> {
    let mut ours = Vec::new();
    let devices = if_nameindex().context("cannot list the devices")?;
    for device in &devices {
        for way in [Way::Ingress, Way::Egress] {
            let filters = traffic_control.filters(device.index(), way)?;
            ours.extend(filters.into_iter().filter(|filter| {
                filter.kind == "bpf"
                    && filter.name.as_ref().is_some_and(|name| name.starts_with(PROGRAM_PREFIX))
            }));
        }
    }
    Ok(ours)
}

/// Removes the filters whose instance is dead, and each clsact that is empty then. Returns what was removed.
pub fn sweep(keep_clsact: bool) -> Result<Vec<Filter>> {
    let traffic_control = TrafficControl::open()?;
    let mut removed = Vec::new();
    for filter in ours(&traffic_control)?.into_iter().filter(|filter| !lives(filter.handle)) {
        if traffic_control.remove(&filter)? {
            removed.push(filter);
        }
    }
    let mut links: Vec<u32> = removed.iter().map(|filter| filter.link).collect();
    links.dedup();
    if !keep_clsact {
        for link in links {
            traffic_control.remove_empty_clsact(link)?;
        }
    }
    Ok(removed)
}
