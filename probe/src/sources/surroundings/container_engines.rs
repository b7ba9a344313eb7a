//! Docker and Podman, asked over their unix sockets which networks they have.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{super::files::read_text, Running};
use crate::{
    model::rows::is_docker_bridge,
    sample::{Fact, Link, OwnedDevice, Owner, OwnerKind},
};

const PATIENCE: Duration = Duration::from_secs(3);
/// Ten thousand networks are about 8 MiB.
const LARGEST_ANSWER: u64 = 16 << 20;
const MOST_HEADERS: usize = 64;
/// Where Docker keeps its networks while it does not run.
const DOCKER_STORE: &str = "var/lib/docker/network/files/local-kv.db";
const LARGEST_STORE: u64 = 64 << 20;
/// Digits of a network's identity in the name of its bridge.
const ID_DIGITS: usize = 12;
/// `__SO_ACCEPTCON` among the flags of `/proc/net/unix`.
const LISTENING: &str = "00010000";

/// The engines that are on this node.
pub async fn ask(root: &Path, running: &Running, bridges: &[&Link]) -> Vec<Owner> {
    let (docker, podman) = tokio::join!(docker(root, running, bridges), podman(root, running));
    docker.into_iter().chain(podman).collect()
}

async fn docker(root: &Path, running: &Running, bridges: &[&Link]) -> Option<Owner> {
    let sockets = ["run/docker.sock", "var/run/docker.sock"];
    let devices = match running {
        Ok(names) if names.contains("dockerd") => answer(root, &sockets, "/networks").await,
        Ok(_) if is_listened_on(root, "/docker.sock") => {
            Err(anyhow!("its socket is open, and asking would start it"))
        }
        Ok(_) => stored(&root.join(DOCKER_STORE), bridges).transpose()?,
        Err(why) => answer(root, &sockets, "/networks").await.map_err(|_| anyhow!("{why}")),
    };
    Some(Owner { kind: OwnerKind::Docker, devices: Fact::from_result(devices) })
}

/// Podman has no daemon: its networks are files, which are read as configurations. Where it serves its API it is asked
/// as well.
async fn podman(root: &Path, running: &Running) -> Option<Owner> {
    if !running.as_ref().is_ok_and(|names| names.contains("podman")) {
        return None;
    }
    let devices = answer(root, &["run/podman/podman.sock"], "/v4.0.0/libpod/networks/json").await;
    Some(Owner { kind: OwnerKind::Podman, devices: Fact::from_result(devices) })
}

/// What is behind the first of the sockets that are there.
async fn answer(root: &Path, sockets: &[&str], page: &str) -> anyhow::Result<Vec<OwnedDevice>> {
    let is_socket = |path: &PathBuf| path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    let socket = sockets.iter().map(|socket| root.join(socket)).find(is_socket);
    let socket = socket.with_context(|| format!("it runs, and no socket is at /{}", sockets[0]))?;
    let answer = tokio::time::timeout(PATIENCE, exchange(&socket, page)).await;
    let answer = answer.map_err(|_| anyhow!("{} does not answer within {PATIENCE:?}", socket.display()))?;
    let answer = answer.with_context(|| format!("cannot ask {}", socket.display()))?;
    networks(&answer).with_context(|| format!("{} answers rubbish", socket.display()))
}

async fn exchange(socket: &Path, page: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    // HTTP/1.0: the answer comes as a whole, not in chunks, and ends with the connection.
    let request = format!("GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER + 1).read_to_end(&mut answer).await?;
    ensure!(answer.len() as u64 <= LARGEST_ANSWER, "the answer is larger than {LARGEST_ANSWER} bytes");
    Ok(answer)
}

/// A network as Docker (`types.NetworkResource`) and Podman (`libnetwork/types.Network`) tell it.
#[derive(Deserialize)]
struct Network {
    #[serde(alias = "Name")]
    name: String,
    #[serde(alias = "Id")]
    id: String,
    #[serde(default, alias = "Driver")]
    driver: String,
    #[serde(default, rename = "network_interface")]
    interface: Option<String>,
    #[serde(default, rename = "Options")]
    options: Option<std::collections::BTreeMap<String, String>>,
}

impl Network {
    fn device(self) -> Option<OwnedDevice> {
        const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
        let option = self.options.as_ref().and_then(|options| options.get(BRIDGE_NAME)).cloned();
        let device = self.interface.or(option).or_else(|| {
            let id = self.id.get(..ID_DIGITS)?;
            (self.driver == "bridge").then(|| format!("br-{id}"))
        })?;
        Some(OwnedDevice { device, name: self.name })
    }
}

fn networks(answer: &[u8]) -> anyhow::Result<Vec<OwnedDevice>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(answer)? else {
        bail!("its answer ends before its body");
    };
    ensure!(response.code == Some(200), "status {}", response.code.unwrap_or_default());
    let body = answer.get(length..).unwrap_or_default();
    let networks: Vec<Network> = serde_json::from_slice(body)?;
    Ok(networks.into_iter().filter_map(Network::device).collect())
}

/// Whether somebody waits for connections at a path that ends so: the daemon, or the service manager in its place.
fn is_listened_on(root: &Path, end: &str) -> bool {
    let Ok(text) = read_text(&root.join("proc/net/unix")) else { return true };
    text.lines().any(|line| line.ends_with(end) && line.split_whitespace().nth(3) == Some(LISTENING))
}

/// The bridges whose networks Docker would make again when it starts; `None` where it has never run.
fn stored(store: &Path, bridges: &[&Link]) -> anyhow::Result<Option<Vec<OwnedDevice>>> {
    if !fs::exists(store).unwrap_or(true) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(store)?.take(LARGEST_STORE + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= LARGEST_STORE, "{} is larger than {LARGEST_STORE} bytes", store.display());
    let known = bridges.iter().filter_map(|bridge| {
        let id = bridge.name.strip_prefix("br-").filter(|_| is_docker_bridge(&bridge.name))?;
        let is_named = bytes.windows(id.len()).any(|window| window == id.as_bytes());
        is_named.then(|| OwnedDevice { device: bridge.name.clone(), name: id.to_owned() })
    });
    Ok(Some(known.collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tokio::net::UnixListener;

    use super::*;

    const DOCKER: &str = r#"[
        {"Name":"bridge","Id":"75dee341aaaa0000","Driver":"bridge","Options":{"com.docker.network.bridge.name":"docker0"},"Containers":{}},
        {"Name":"app_default","Id":"1d6d3edc38f7ffff0123","Driver":"bridge","Options":{},"Labels":{}},
        {"Name":"old","Id":"aaaaaaaaaaaabbbb","Driver":"bridge","Options":null},
        {"Name":"host","Id":"bbbbbbbbbbbbcccc","Driver":"host","Options":{}}]"#;

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}").into_bytes()
    }

    fn devices(answer: &[u8]) -> Vec<(String, String)> {
        networks(answer).unwrap().into_iter().map(|own| (own.device, own.name)).collect()
    }

    #[test]
    fn networks_are_told_by_their_bridges() {
        let expected =
            [("docker0", "bridge"), ("br-1d6d3edc38f7", "app_default"), ("br-aaaaaaaaaaaa", "old")];
        let expected = expected.map(|(device, name)| (device.to_owned(), name.to_owned()));
        assert_eq!(devices(&ok(DOCKER)), expected);
        let podman =
            r#"[{"name":"podman","id":"2f259bab93aa","driver":"bridge","network_interface":"podman0"}]"#;
        assert_eq!(devices(&ok(podman)), [("podman0".to_owned(), "podman".to_owned())]);
        assert!(networks(b"HTTP/1.0 500 Internal Server Error\r\n\r\n[]").is_err());
        assert!(networks(b"HTTP/1.0 200 OK\r\n\r\n[{]").is_err());
    }

    #[tokio::test]
    async fn who_runs_and_does_not_answer_is_not_taken_to_have_nothing() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        let runs: Running = Ok(BTreeSet::from(["dockerd".to_owned()]));
        let without_socket = docker(root.path(), &runs, &[]).await.unwrap();
        assert!(without_socket.devices.absent().unwrap().contains("no socket"));
        let _never_accepts = UnixListener::bind(root.path().join("run/docker.sock")).unwrap();
        let silent = docker(root.path(), &runs, &[]).await.unwrap();
        assert!(silent.devices.absent().unwrap().contains("does not answer"));
    }

    #[tokio::test]
    async fn a_stopped_docker_still_has_what_it_stored() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        fs::write(root.path().join("proc/net/unix"), "Num RefCount Protocol Flags Type St Inode Path\n")
            .unwrap();
        let stopped: Running = Ok(BTreeSet::new());
        let link = |name: &str| Link { name: name.to_owned(), ..Link::default() };
        let (known, unknown) = (link("br-1d6d3edc38f7"), link("br-1691e1aaa0bf"));
        assert_eq!(docker(root.path(), &stopped, &[&known]).await, None);
        let store = root.path().join(DOCKER_STORE);
        fs::create_dir_all(store.parent().unwrap()).unwrap();
        fs::write(store, b"\0\x01docker/network/1d6d3edc38f7ffff\0").unwrap();
        let owner = docker(root.path(), &stopped, &[&known, &unknown]).await.unwrap();
        let names: Vec<&str> = owner.devices.known().unwrap().iter().map(|own| own.device.as_str()).collect();
        assert_eq!(names, ["br-1d6d3edc38f7"]);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer in prop::collection::vec(any::<u8>(), 0..200), body in "\\PC{0,80}") {
            let _ = (networks(&answer), networks(&ok(&body)));
        }
    }
}
