//! What a look at one side of a node came to.

use serde::Serialize;

use crate::report::document::{Finding, NotSeen};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    Calico,
    BgpSessions,
    Names,
    Uplink,
    PodNetworks,
    Tunnel,
    Routes,
    Settings,
    Interfaces,
    Firewall,
    Tables,
    /// The inside of a pod, which is no node.
    Pod,
}

impl Topic {
    pub fn words(self) -> &'static str {
        match self {
            Self::Calico => "calico",
            Self::BgpSessions => "bgp",
            Self::Names => "names",
            Self::Uplink => "uplink",
            Self::PodNetworks => "networks",
            Self::Tunnel => "tunnel",
            Self::Routes => "routes",
            Self::Settings => "settings",
            Self::Interfaces => "interfaces",
            Self::Firewall => "firewall",
            Self::Tables => "tables",
            Self::Pod => "pod",
        }
    }
}

/// What is wrong, what is fine, and what could not be seen.
#[derive(Clone, Debug)]
pub struct Review {
    pub topic: Topic,
    pub findings: Vec<Finding>,
    /// Each a sentence without a full stop.
    pub passed: Vec<String>,
    pub not_seen: Vec<NotSeen>,
}

impl Review {
    pub(super) fn of(topic: Topic) -> Self {
        Self { topic, findings: Vec::new(), passed: Vec::new(), not_seen: Vec::new() }
    }

    pub(super) fn found(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    pub(super) fn pass(&mut self, words: impl Into<String>) {
        self.passed.push(words.into());
    }

    pub(super) fn unseen(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_seen.push(NotSeen { what: what.into(), why: why.into() });
    }
}
