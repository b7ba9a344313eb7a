//! A clean-up plan: what would be taken away from this node, in which order, and why that is safe. `causes` make it,
//! a file keeps it, and what carries it out checks each step again right before it is done.

use serde::{Deserialize, Serialize};

use crate::{
    report::document::{Evidence, Subject},
    sample::{Address, Link, Route},
};

/// The version of this format. A plan of another version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// How long a plan may wait before it is carried out, seconds: a node changes.
pub const VALID_FOR_SECONDS: u64 = 15 * 60;

/// What `cleanup plan -o json` prints and `cleanup apply` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format_version: u32,
    /// When the node was looked at, RFC 3339, UTC.
    pub time: String,
    /// The node's name, as Calico knows it.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`: indices of devices mean nothing after another boot.
    pub boot_id: String,
    /// Inode of the network namespace that was looked at.
    pub network_namespace: u64,
    /// In the order in which they are to be done: routes before the device that they lead to.
    pub steps: Vec<Step>,
    /// What looks stale and stays, and what its owner would type.
    pub kept: Vec<Kept>,
}

/// One thing that is taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub action: Action,
    pub subject: Subject,
    /// Why it is stale, in one sentence.
    pub why: String,
    /// What that rests on.
    pub proof: Vec<Evidence>,
    /// What happens if this is wrong, in one sentence.
    pub risk: String,
    /// The `ip` command that does the same.
    pub command: String,
}

impl Step {
    /// Whether `cleanup undo` can put it back. A deleted veth is gone for good (pod side included).
    pub fn is_reversible(&self) -> bool {
        !matches!(&self.action, Action::DeleteLink { link, .. } if link.kind.as_deref() != Some("bridge"))
    }
}

/// What is done, with all that undoing it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// The route with exactly these attributes. `devices` are the names of its hops' devices, in the hops' order:
    /// an index is no help once a bridge was made anew.
    DeleteRoute { route: Route, devices: Vec<Option<String>> },
    /// Sets a device down, so that what still needs it shows before the device is deleted.
    SetLinkDown { link: Link },
    /// Deletes a device. For a bridge without ports, its addresses and state are what makes it anew.
    DeleteLink { link: Link, addresses: Vec<Address> },
}

/// What a plan leaves alone though it looks stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub subject: Subject,
    /// What is not proven, or whose it is.
    pub why: String,
    /// What its owner would type, or what would settle it.
    pub command: Option<String>,
}
