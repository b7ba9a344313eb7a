//! The counting programs at the devices: attached as they come, gone with them, first in order.
//!
//! By TCX where the kernel has it: its links vanish with this process. By clsact otherwise: each filter carries
//! the handle of this instance, so that exactly these can be removed when it was killed.

use std::{collections::BTreeMap, io};

use anyhow::{Context as _, bail};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};
use nix::{errno::Errno, net::if_::if_nametoindex};

use super::{instance::Instance, ledger::Ledger};
use crate::{
    model::{Model, is_pod_link, is_tunnel_link},
    sources::traffic_control::{TrafficControl, Way},
};

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK`, `linux/if_arp.h`: the link layers whose headers the programs know.
const ETHERNET: [u16; 2] = [1, 772];
/// Our preference where a device has no filter.
const PREFERENCE: u16 = 10;

/// What is counted at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Tunnel,
    Wire,
    /// A wire without a link-layer header.
    HeadlessWire,
    Pod,
}

impl Role {
    fn programs(self) -> [(Way, &'static str); 2] {
        let [ingress, egress] = match self {
            Self::Tunnel => ["caliprobe_from_tunnel", "caliprobe_to_tunnel"],
            Self::Wire => ["caliprobe_from_wire", "caliprobe_to_wire"],
            Self::HeadlessWire => ["caliprobe_from_wire_headless", "caliprobe_to_wire_headless"],
            Self::Pod => ["caliprobe_from_pod", "caliprobe_to_pod"],
        };
        [(Way::Ingress, ingress), (Way::Egress, egress)]
    }
}

/// A device that is to have programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub name: String,
    pub role: Role,
}

/// The devices that pod traffic passes, in the order in which they are attached: `tunl0` and the wires first.
pub fn devices(model: &Model<'_>, with_pods: bool) -> Vec<Device> {
    let mut devices: Vec<Device> = model
        .sample
        .links
        .iter()
        .filter_map(|link| {
            let role = if is_tunnel_link(link) {
                Role::Tunnel
            } else if is_pod_link(link) {
                with_pods.then_some(Role::Pod)?
            } else if model.is_wire(link.index) {
                if ETHERNET.contains(&link.link_layer_type) { Role::Wire } else { Role::HeadlessWire }
            } else {
                return None;
            };
            Some(Device { index: link.index, name: link.name.clone(), role })
        })
        .collect();
    devices.sort_by_key(|device| (device.role, device.index));
    devices
}

/// How programs are attached on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Tcx,
    Clsact,
}

impl Means {
    pub fn words(self) -> &'static str {
        match self {
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
        }
    }
}

/// One device's programs, detached when dropped.
struct Attached {
    role: Role,
    made_clsact: bool,
    _links: Vec<SchedClassifierLink>,
}

/// What became of an attempt to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Attached,
    /// The device vanished meanwhile.
    Gone,
}

pub struct Attachments {
    instance: Instance,
    means: Option<Means>,
    traffic_control: TrafficControl,
    devices: BTreeMap<u32, Attached>,
    limits: BTreeMap<u32, String>,
}

impl Attachments {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            instance: Instance::new()?,
            means: None,
            traffic_control: TrafficControl::open()?,
            devices: BTreeMap::new(),
            limits: BTreeMap::new(),
        })
    }

    pub fn handle(&self) -> u32 {
        self.instance.handle()
    }

    /// Known once the first program is attached.
    pub fn means(&self) -> Option<Means> {
        self.means
    }

    /// What others keep from being counted, by device.
    pub fn limits(&self) -> impl Iterator<Item = &str> {
        self.limits.values().map(String::as_str)
    }

    pub fn is_attached(&self, device: &Device) -> bool {
        self.devices.get(&device.index).is_some_and(|attached| attached.role == device.role)
    }

    /// Takes the programs off devices that are no longer wanted or no longer there.
    pub fn keep_only(&mut self, wanted: &[Device], keep_clsact: bool) {
        let unwanted: Vec<u32> = self
            .devices
            .iter()
            .filter(|(index, held)| {
                !wanted.iter().any(|device| device.index == **index && device.role == held.role)
            })
            .map(|(index, _)| *index)
            .collect();
        for index in unwanted {
            self.detach(index, keep_clsact);
        }
    }

    /// Takes everything off.
    pub fn detach_all(&mut self, keep_clsact: bool) {
        let all: Vec<u32> = self.devices.keys().copied().collect();
        for index in all {
            self.detach(index, keep_clsact);
        }
    }

    fn detach(&mut self, index: u32, keep_clsact: bool) {
        self.limits.remove(&index);
        let Some(attached) = self.devices.remove(&index) else { return };
        let made_clsact = attached.made_clsact;
        drop(attached);
        if made_clsact
            && !keep_clsact
            && let Err(error) = self.traffic_control.remove_empty_clsact(index)
        {
            tracing::warn!("the clsact of device {index} stays: {error:#}");
        }
    }

    /// Attaches both programs of a device. `before_filters` is called before filters are attached, and told whether
    /// a clsact will be made.
    pub fn attach(
        &mut self,
        ledger: &mut Ledger,
        device: &Device,
        before_filters: &mut dyn FnMut(bool) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let outcome = match self.means {
            Some(Means::Tcx) => attach_links(ledger, device),
            Some(Means::Clsact) => self.attach_filters(ledger, device, before_filters),
            None => match attach_links(ledger, device) {
                Err(error) if has_no_tcx(&error) => {
                    self.means = Some(Means::Clsact);
                    self.attach_filters(ledger, device, before_filters)
                }
                other => {
                    self.means = Some(Means::Tcx);
                    other
                }
            },
        };
        match outcome {
            Ok(attached) if if_nametoindex(device.name.as_str()).ok() == Some(device.index) => {
                self.devices.insert(device.index, attached);
                Ok(Outcome::Attached)
            }
            Ok(_) => Ok(Outcome::Gone),
            Err(error) if is_gone(&error) => Ok(Outcome::Gone),
            Err(error) => Err(error).with_context(|| format!("cannot attach to {}", device.name)),
        }
    }

    fn attach_filters(
        &mut self,
        ledger: &mut Ledger,
        device: &Device,
        before_filters: &mut dyn FnMut(bool) -> anyhow::Result<()>,
    ) -> anyhow::Result<Attached> {
        let makes_clsact = !self.traffic_control.has_clsact(device.index)?;
        before_filters(makes_clsact)?;
        if makes_clsact {
            match tc::qdisc_add_clsact(&device.name) {
                Ok(()) => {}
                Err(error) if is_errno(&error, Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut links = Vec::new();
        for (way, name) in device.role.programs() {
            let preference = self.preference(device, way)?;
            let options = NlOptions {
                priority: preference,
                handle: TcHandle::from(self.instance.handle()),
                ..NlOptions::default()
            };
            links.push(attach_one(ledger, name, device, way, TcAttachOptions::Netlink(options))?);
        }
        Ok(Attached { role: device.role, made_clsact: makes_clsact, _links: links })
    }

    /// A preference before every other filter, so that none of them hides packets from ours. Where there is no
    /// room before, ours shares the first place or comes after it, which is said.
    fn preference(&mut self, device: &Device, way: Way) -> anyhow::Result<u16> {
        let filters = self.traffic_control.filters(device.index, way)?;
        let Some(first) = filters.iter().map(|filter| filter.preference).min() else { return Ok(PREFERENCE) };
        if first > 1 {
            return Ok(first - 1);
        }
        let limit =
            format!("{}: another program's filter comes first; what it takes is not counted", device.name);
        self.limits.insert(device.index, limit);
        let taken = |preference: u16| filters.iter().any(|filter| filter.preference == preference);
        (2..u16::MAX).find(|preference| !taken(*preference)).context("no free preference for a filter")
    }
}

fn attach_links(ledger: &mut Ledger, device: &Device) -> anyhow::Result<Attached> {
    let mut links = Vec::new();
    for (way, name) in device.role.programs() {
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        links.push(attach_one(ledger, name, device, way, options)?);
    }
    Ok(Attached { role: device.role, made_clsact: false, _links: links })
}

fn attach_one(
    ledger: &mut Ledger,
    name: &str,
    device: &Device,
    way: Way,
    options: TcAttachOptions,
) -> anyhow::Result<SchedClassifierLink> {
    let Some(program) = ledger.programs().program_mut(name) else { bail!("the program {name} is missing") };
    let program: &mut SchedClassifier = program.try_into()?;
    let kind = match way {
        Way::Ingress => TcAttachType::Ingress,
        Way::Egress => TcAttachType::Egress,
    };
    let id = program.attach_with_options(&device.name, kind, options)?;
    Ok(program.take_link(id)?)
}

/// Whether the kernel does not know the attach type of TCX (kernel/bpf/syscall.c answers EINVAL).
pub(super) fn has_no_tcx(error: &anyhow::Error) -> bool {
    let Some(ProgramError::SyscallError(call)) = error.downcast_ref() else { return false };
    matches!(call.io_error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let Some(cause) = cause.downcast_ref::<io::Error>() else { return false };
        matches!(cause.raw_os_error(), Some(libc::ENODEV | libc::ENXIO | libc::ENOLINK))
    })
}

fn is_errno(error: &TcError, wanted: Errno) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.raw_os_error() == Some(wanted as i32)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
