//! Docker, as far as others can ask it: a process of its name that serves the networks it has on its socket.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::prctl;

const SOCKET: &str = "/run/docker.sock";

/// Serves networks by the names of their bridges, `br-` and the first digits of their identities; says a line once it
/// does. One that is silent accepts connections and never answers.
pub fn run(bridges: &[String], is_silent: bool) -> Result<()> {
    prctl::set_name(c"dockerd")?;
    let _ = fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET).context(SOCKET)?;
    println!("serving {SOCKET}");
    let body = networks(bridges);
    for connection in listener.incoming() {
        let (connection, body) = (connection?, body.clone());
        thread::spawn(move || if is_silent { thread::park() } else { drop(answer(&connection, &body)) });
    }
    Ok(())
}

/// `GET /networks` of the Docker Engine API, with the network that every engine has.
fn networks(bridges: &[String]) -> String {
    let mut body = String::from(
        r#"[{"Name":"bridge","Id":"75dee34100000000000000000000000000000000000000000000000000000000","Scope":"local","Driver":"bridge","EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"172.17.0.0/16"}]},"Internal":false,"Containers":{},"Options":{"com.docker.network.bridge.name":"docker0"},"Labels":{}}"#,
    );
    for (number, bridge) in (1..).zip(bridges) {
        let id = bridge.trim_start_matches("br-");
        let _ = write!(
            body,
            r#",{{"Name":"app{number}_default","Id":"{id:0<64}","Scope":"local","Driver":"bridge","Containers":{{}},"Options":{{}},"Labels":{{"com.docker.compose.network":"default"}}}}"#
        );
    }
    body.push_str("]\n");
    body
}

/// One request; whoever speaks HTTP/1.1 gets the body in chunks, as from Go's server.
fn answer(mut connection: &UnixStream, body: &str) -> Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().context("no request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let head = "Api-Version: 1.43\r\nContent-Type: application/json\r\nServer: Docker/24.0.5 (linux)\r\n";
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = if path.ends_with("/networks") {
        ("200 OK", body)
    } else {
        ("404 Not Found", "{\"message\":\"page not found\"}\n")
    };
    if request.ends_with("HTTP/1.1") {
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 {status}\r\n{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        )?;
    } else {
        write!(connection, "HTTP/1.0 {status}\r\n{head}\r\n{body}")?;
    }
    Ok(())
}
