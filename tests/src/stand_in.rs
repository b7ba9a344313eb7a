//! Processes of Calico that the lab does not have, as far as others see them: their command lines, the first
//! lines of their logs, and Felix' health.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl;

/// This program is a stand-in when it is started by this name.
pub const NAME: &str = "calico-node";

/// Where Felix answers its health checks (`FELIX_HEALTHPORT`).
const HEALTH: (&str, u16) = ("127.0.0.1", 9099);
/// What Felix answers, in a file of the node that a scenario may write: `ready`, `not-ready`, or `silent` for no
/// answer at all. Ready where there is no file.
const STATE: &str = "/run/felix-stand-in";

/// Whether this process was started as a stand-in.
pub fn is_wanted() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// The whole life of the process.
pub fn run() -> Result<()> {
    prctl::set_name(c"calico-node")?;
    match std::env::args().nth(1).as_deref() {
        Some("-felix") => felix(),
        Some("-confd") => {
            log("confd", "daemon.go 31", "Starting calico-confd");
            sleep_for_ever()
        }
        role => bail!("there is no stand-in for {NAME} {}", role.unwrap_or_default()),
    }
}

fn sleep_for_ever() -> ! {
    loop {
        thread::park();
    }
}

fn felix() -> Result<()> {
    log("felix", "daemon.go 373", "Successfully loaded configuration.");
    let listener = TcpListener::bind(HEALTH).context("cannot listen for health checks")?;
    log("felix", "health.go 336", "Overall health status changed: live=true ready=true");
    for connection in listener.incoming() {
        let connection = connection?;
        thread::spawn(move || answer(&connection));
    }
    Ok(())
}

/// Answers one request; a reader that goes away is its own affair.
fn answer(mut connection: &TcpStream) -> Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().context("no request")??;
    // The rest of the head, up to its empty line.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let state = fs::read_to_string(STATE).unwrap_or_default();
    let status = match (request.split(' ').nth(1), state.trim()) {
        (_, "silent") => sleep_for_ever(),
        (Some("/liveness"), _) | (Some("/readiness"), "" | "ready") => "200 OK",
        (Some("/readiness"), _) => "503 Service Unavailable",
        _ => "404 Not Found",
    };
    // Felix tells the state of each of its parts, as a table.
    let body = "| COMPONENT | TIMEOUT | LIVENESS | READINESS | DETAIL |\n";
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// A line as Calico's programs write it: `lib/logrusr/formatter.go`.
fn log(component: &str, place: &str, text: &str) {
    let time = jiff::Timestamp::now().strftime("%F %H:%M:%S.%3f");
    println!("{time} [INFO][{}] {component}/{place}: {text}", std::process::id());
}
