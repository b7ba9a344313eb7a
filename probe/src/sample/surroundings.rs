//! What of a node is not Calico's and not the kernel's, and what must not be cut off: whoever takes something away
//! asks first.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Fact;

/// Whose things are whose, and what this node talks to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Programs that make devices, as far as they are on this node.
    pub owners: Vec<Owner>,
    /// Bridges that configuration files name, with the first such file.
    pub configured: BTreeMap<String, String>,
    /// For how long devices exist at least, seconds, by index.
    pub ages: BTreeMap<u32, u64>,
    /// Addresses that something on this node uses right now.
    pub lifelines: Fact<Vec<Lifeline>>,
}

/// A program that makes devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerKind {
    Docker,
    Podman,
    NetworkManager,
    Networkd,
    Libvirt,
}

impl OwnerKind {
    pub const ALL: [Self; 5] =
        [Self::Docker, Self::Podman, Self::NetworkManager, Self::Networkd, Self::Libvirt];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::NetworkManager => "NetworkManager",
            Self::Networkd => "systemd-networkd",
            Self::Libvirt => "libvirt",
        }
    }
}

/// What a program that is on this node says to be its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub kind: OwnerKind,
    /// Absent where it runs, or may run, and cannot be asked.
    pub devices: Fact<Vec<OwnedDevice>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedDevice {
    pub device: String,
    /// What the owner calls it, such as the name of a network of Docker's.
    pub name: String,
}

/// An address that is in use, and by what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lifeline {
    pub address: Ipv4Addr,
    /// Such as `the API server`.
    pub what: String,
}
