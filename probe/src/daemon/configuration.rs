//! The daemon's configuration file. Flags win over the environment, which wins over the file.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, de};

/// Where it is looked for when nothing else is said.
pub const FILE: &str = "/etc/caliprobe/caliprobe.toml";

/// What `caliprobe run --print-config` prints: everything at its default.
pub const TEMPLATE: &str = "\
# The configuration of `caliprobe run`. Flags win over the environment (CALIPROBE_*), which wins over this file.
# It is read again on SIGHUP: `interval` and `pools` then take effect at once, the rest at the next start.

# How often the ledger is read.
#interval = \"1s\"

# Pod pools, where this node does not tell them. They win over what the node tells.
#pools = [\"10.244.0.0/16\"]

# Where metrics and health are served; \"none\" for nowhere. Plain HTTP without a certificate.
#listen = \"127.0.0.1:10475\"

# The certificate and key (PEM) with which they are served over TLS. Certificates are read anew for each connection.
#listen-cert = \"none\"
#listen-key = \"none\"

# Where other nodes may have their probes followed (`diagnose --peer`), such as \"172.30.10.187:10476\"; \"none\" for
# nowhere. Then this node's certificate and key, and the authorities of those who may ask (PEM).
#remote-listen = \"none\"
#remote-cert = \"none\"
#remote-key = \"none\"
#remote-ca = \"none\"

# Whether they see the rules of this node too, not only hook, chain and cause of what a rule drops.
#remote-rules = false

# The unix socket of the local API; \"none\" for none.
#api-socket = \"/run/caliprobe/api.sock\"

# Where black holes that open and close are kept.
#events-dir = \"/var/lib/caliprobe\"

# Whether pod interfaces get programs. Without them tunl0 and the NICs alone are counted.
#pod-hooks = true

# Whether clsact queueing disciplines that caliprobe made stay behind, on kernels without TCX.
#keep-clsact = false
";

/// What the file says; what it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Configuration {
    #[serde(default, deserialize_with = "duration")]
    pub interval: Option<Duration>,
    pub pools: Option<Vec<Ipv4Net>>,
    #[serde(default, deserialize_with = "or_none")]
    pub listen: Option<Choice<SocketAddr>>,
    #[serde(default, deserialize_with = "or_none")]
    pub listen_cert: Option<Choice<PathBuf>>,
    #[serde(default, deserialize_with = "or_none")]
    pub listen_key: Option<Choice<PathBuf>>,
    #[serde(default, deserialize_with = "or_none")]
    pub remote_listen: Option<Choice<SocketAddr>>,
    #[serde(default, deserialize_with = "or_none")]
    pub remote_cert: Option<Choice<PathBuf>>,
    #[serde(default, deserialize_with = "or_none")]
    pub remote_key: Option<Choice<PathBuf>>,
    #[serde(default, deserialize_with = "or_none")]
    pub remote_ca: Option<Choice<PathBuf>>,
    pub remote_rules: Option<bool>,
    #[serde(default, deserialize_with = "or_none")]
    pub api_socket: Option<Choice<PathBuf>>,
    pub events_dir: Option<PathBuf>,
    pub pod_hooks: Option<bool>,
    pub keep_clsact: Option<bool>,
}

/// Something, or explicitly nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    None,
    This(T),
}

impl<T> Choice<T> {
    /// The thing, where it is one.
    pub fn this(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::This(value) => Some(value),
        }
    }
}

impl Configuration {
    /// Reads the named file, or the usual one where there is one. The error names the line.
    pub fn read(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = named.unwrap_or(Path::new(FILE));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| format!("cannot read {}", path.display())),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        match toml::from_str(text) {
            Ok(configuration) => Ok(configuration),
            Err(error) => {
                let end = error.span().map_or(0, |span| span.start);
                let line = 1 + text.bytes().take(end).filter(|byte| *byte == b'\n').count();
                bail!("line {line}: {}", error.message().replace('\n', " "))
            }
        }
    }
}

/// A reading's interval as people write it, within what the daemon can keep.
pub fn interval(text: &str) -> Result<Duration, String> {
    let value =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 5s or 500ms"))?;
    if value < Duration::from_millis(100) || value > Duration::from_hours(1) {
        return Err("it must be between 100ms and 1h".to_owned());
    }
    Ok(value)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    interval(&text).map(Some).map_err(de::Error::custom)
}

fn or_none<'de, D, T>(deserializer: D) -> Result<Option<Choice<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text == "none" {
        return Ok(Some(Choice::None));
    }
    text.parse().map(|value| Some(Choice::This(value))).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_template_says_nothing_and_its_lines_are_read() {
        assert_eq!(Configuration::parse(TEMPLATE).unwrap(), Configuration::default());
        let lines = TEMPLATE.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        let all = Configuration::parse(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(all.interval, Some(Duration::from_secs(1)));
        assert_eq!(all.listen.unwrap().this().unwrap().to_string(), crate::serving::METRICS_ADDRESS);
        assert_eq!(all.remote_listen.unwrap().this(), None);
        let files = [all.listen_cert, all.listen_key, all.remote_cert, all.remote_key, all.remote_ca];
        assert!(files.into_iter().all(|file| file == Some(Choice::None)));
        assert_eq!(all.remote_rules, Some(false));
        assert_eq!(all.api_socket.unwrap().this().unwrap(), Path::new(crate::serving::API_SOCKET));
        assert_eq!(all.events_dir.unwrap(), Path::new(crate::daemon::journal::FOLDER));
        assert_eq!((all.pod_hooks, all.keep_clsact), (Some(true), Some(false)));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            ("interval = \"1s\"\npool = []", "line 2: unknown field `pool`"),
            ("\n\ninterval = 5", "line 3"),
            ("interval = \"1ms\"", "between 100ms and 1h"),
            ("listen = \"9100\"", "line 1"),
            ("remote-listen = \"paas-187\"", "line 1"),
            ("pools = [\"10.0.0.0\"]", "line 1"),
            ("interval = \"1s", "line 1"),
        ] {
            let error = format!("{:#}", Configuration::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        assert!(Configuration::read(Some(Path::new("/nowhere/caliprobe.toml"))).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let _ = Configuration::parse(&text);
        }
    }
}
