//! Errors of Calico's logs: the containers' as the runtime writes them (CRI, or Docker's JSON), or files of
//! `/var/log/calico` that svlogd writes where file logging is on.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::sample::{ContainerLog, LogEntry};

/// How much of the end of each file is read.
const TAIL: u64 = 256 << 10;
const LONGEST_TEXT: usize = 300;
const MOST_ENTRIES: usize = 20;
/// A folder of pods of a node has at most a few hundred.
const MOST_PODS: usize = 4096;
/// Which pods' folders, `NAMESPACE_NAME_UID`, hold a log of Calico's.
const CONTAINERS: [(&str, &str); 2] =
    [("_calico-node-", "calico-node"), ("_calico-kube-controllers-", "calico-kube-controllers")];
const PROGRAMS: [&str; 3] = ["felix", "bird", "confd"];

/// Reads the newest file of each log; an error where there is none.
pub fn read(root: &Path) -> anyhow::Result<Vec<ContainerLog>> {
    let mut logs = containers(root);
    logs.extend(programs(root));
    anyhow::ensure!(!logs.is_empty(), "no log of Calico under {}", root.join("var/log/pods").display());
    Ok(logs)
}

/// The end of a log as it is, for a person to read.
#[derive(Debug)]
pub struct Tail {
    /// The pod or, outside of containers, the program.
    pub of: String,
    pub text: String,
}

/// The ends of those that [`read`] looks through.
pub fn tails(root: &Path) -> Vec<Tail> {
    let files = container_files(root).into_iter().chain(program_files(root));
    files.filter_map(|(of, path)| Some(Tail { of, text: tail(&under(root, &path)).ok()? })).collect()
}

fn containers(root: &Path) -> Vec<ContainerLog> {
    let files = container_files(root).into_iter();
    let mut logs: Vec<ContainerLog> = files.filter_map(|(of, path)| log(root, of, &path).ok()).collect();
    logs.sort_by(|one, other| one.of.cmp(&other.of));
    logs
}

/// The newest file of each container, and whose it is.
fn container_files(root: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(root.join("var/log/pods")) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten().take(MOST_PODS) {
        let Ok(pod) = entry.file_name().into_string() else { continue };
        let Some((_, container)) = CONTAINERS.iter().find(|(part, _)| pod.contains(part)) else { continue };
        let newest = newest(&entry.path().join(container));
        let name = pod.split('_').take(2).collect::<Vec<_>>().join("/");
        files.extend(newest.map(|path| (name, path)));
    }
    files
}

/// `N.log`: the runtime counts up with each restart of the container.
fn newest(folder: &Path) -> Option<PathBuf> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u32>().ok();
    let files = fs::read_dir(folder).ok()?.flatten().take(MOST_PODS).map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.filter_map(|path| Some((number(&path)?, path))).max().map(|(_, path)| path)
}

fn programs(root: &Path) -> impl Iterator<Item = ContainerLog> {
    program_files(root).filter_map(move |(of, path)| log(root, of, &path).ok())
}

fn program_files(root: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let folder = root.join("var/log/calico");
    PROGRAMS.into_iter().map(move |program| (program.to_owned(), folder.join(program).join("current")))
}

fn log(root: &Path, of: String, path: &Path) -> anyhow::Result<ContainerLog> {
    let text = tail(&under(root, path)).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ContainerLog { of, path: path.display().to_string(), errors: errors(&text) })
}

/// Docker's runtime links its logs by absolute paths, which lead out of the root folder.
fn under(root: &Path, path: &Path) -> PathBuf {
    match fs::read_link(path) {
        Ok(target) if target.is_absolute() => {
            target.strip_prefix("/").map_or_else(|_| path.to_owned(), |inner| root.join(inner))
        }
        _ => path.to_owned(),
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        // The first line has lost its beginning.
        Some((_, rest)) if start > 0 => rest.to_owned(),
        _ => text,
    })
}

/// The errors, repetitions counted, in the order of their last appearance.
fn errors(text: &str) -> Vec<LogEntry> {
    let mut entries: Vec<LogEntry> = Vec::new();
    for line in text.lines() {
        let (time, message) = unwrap(line);
        let Some(message) = error_text(&message) else { continue };
        let count = match entries.iter().position(|entry| entry.text == message) {
            Some(place) => entries.remove(place).count.saturating_add(1),
            None => 1,
        };
        entries.push(LogEntry { time, text: message, count });
    }
    entries.split_off(entries.len().saturating_sub(MOST_ENTRIES))
}

#[derive(Deserialize)]
struct DockerLine {
    log: String,
    time: String,
}

/// A line without what the runtime or svlogd puts before it, and when it was written, as RFC 3339.
fn unwrap(line: &str) -> (Option<String>, String) {
    if line.starts_with('{')
        && let Ok(docker) = serde_json::from_str::<DockerLine>(line)
    {
        return (Some(docker.time), docker.log);
    }
    let Some((first, rest)) = line.split_once(' ') else { return (None, line.to_owned()) };
    if first.parse::<jiff::Timestamp>().is_ok() {
        let message = rest.splitn(3, ' ').nth(2).unwrap_or_default();
        return (Some(first.to_owned()), message.to_owned());
    }
    let by_svlogd = format!("{}Z", first.replacen('_', "T", 1));
    match by_svlogd.parse::<jiff::Timestamp>() {
        Ok(_) => (Some(by_svlogd), rest.to_owned()),
        Err(_) => (None, line.to_owned()),
    }
}

/// The text of an error, without time and process number; `None` for every other line.
fn error_text(message: &str) -> Option<String> {
    let text = if let Some(bird) = message.strip_prefix("bird: ") {
        is_error_of_bird(bird).then(|| format!("bird: {bird}"))?
    } else {
        // `2026-01-02 03:04:05.678 [ERROR][75] felix/table.go 475: text` (libcalico-go, logrus formatter)
        let level = ["[ERROR]", "[FATAL]", "[PANIC]"].into_iter().find(|level| message.contains(level))?;
        let (_, rest) = message.split_once(level)?;
        let rest = rest.split_once(']').map_or(rest, |(_, rest)| rest);
        format!("{level} {}", rest.trim())
    };
    let printable = text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { '?' } else { c });
    Some(printable.collect::<String>().trim().to_owned())
}

/// BIRD's lines carry no level; these are its complaints (bird `sysdep/unix/krt.c`, `sysdep/linux/netlink.c`,
/// `proto/bgp/bgp.c`).
fn is_error_of_bird(text: &str) -> bool {
    const COMPLAINTS: [&str; 8] = [
        "Netlink: ",
        "KRT: ",
        "Kernel dropped some netlink messages",
        "Unexpected connect from",
        "Error: ",
        "Socket: ",
        "Received: ",
        "Cannot ",
    ];
    COMPLAINTS.iter().any(|complaint| text.contains(complaint))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRITTEN: &str = "\
2026-11-23T08:00:34.123456789Z stdout F 2026-11-23 08:00:34.123 [INFO][75] felix/int_dataplane.go 1416: Applied
2026-11-23T08:00:35.000000000Z stdout F bird: Netlink: Network is down
2026-11-23T08:00:36.000000000Z stderr F 2026-11-23 08:00:36.001 [ERROR][75] felix/route_table.go 475: Failed to do it error=x
2026-11-23T08:00:37.000000000Z stdout F bird: Netlink: Network is down
2018-06-28_03:30:39.23350 bird: Mesh_172_30_10_187: Error: Hold timer expired
{\"log\":\"2018-06-28 03:30:40.100 [FATAL][9] startup.go 1: no\\n\",\"stream\":\"stderr\",\"time\":\"2018-06-28T03:30:40.1Z\"}
bird: Graceful restart done
";

    #[test]
    fn errors_are_told_from_the_rest_and_counted() {
        let found = errors(WRITTEN);
        let texts: Vec<(&str, u32)> = found.iter().map(|entry| (entry.text.as_str(), entry.count)).collect();
        assert_eq!(
            texts,
            [
                ("[ERROR] felix/route_table.go 475: Failed to do it error=x", 1),
                ("bird: Netlink: Network is down", 2),
                ("bird: Mesh_172_30_10_187: Error: Hold timer expired", 1),
                ("[FATAL] startup.go 1: no", 1),
            ]
        );
        assert_eq!(found[1].time.as_deref(), Some("2026-11-23T08:00:37.000000000Z"));
        assert_eq!(found[2].time.as_deref(), Some("2018-06-28T03:30:39.23350Z"));
    }

    #[test]
    fn the_newest_file_of_each_container_is_read_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("var/log/pods/kube-system_calico-node-2wtkj_1f0/calico-node");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("9.log"), "bird: Netlink: old\n").unwrap();
        let line = "2026-11-23T08:00:35Z stdout F bird: Netlink: Network is down\n";
        fs::write(folder.join("10.log"), format!("{}\n{line}", "x".repeat(2 << 20))).unwrap();
        let logs = read(root.path()).unwrap();
        assert_eq!(logs[0].of, "kube-system/calico-node-2wtkj");
        assert_eq!(logs[0].errors[0].text, "bird: Netlink: Network is down");
        assert!(read(Path::new("/nonexistent")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            errors(&text);
            errors(&format!("bird: {text}\n2026-11-23T08:00:34Z stdout F {text}\n[ERROR]{text}"));
        }
    }
}
