//! One step: whether the thing is still as planned, what it needs to be put back, taking it away, putting it back.

use std::{collections::BTreeMap, io};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{
    device_settings,
    kernel::{Kernel, Place},
    messages::{KeptAddress, KeptLink, KeptRoute},
};
use crate::{
    model::TABLE_LOCAL,
    plan::Action,
    sample::{Hop, Link, Route},
    sources::next_hops,
};

/// `RTPROT_KERNEL`.
const PROTOCOL_KERNEL: u8 = 2;

/// What a step takes away, as the kernel told it right before: all that putting it back needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "kebab-case")]
pub enum Before {
    Route {
        route: KeptRoute,
        /// The names of the devices that it names, by their indices then.
        devices: Vec<(u32, String)>,
        /// Routes of the same destination, type of service and metric that were there beside it.
        beside: Vec<KeptRoute>,
        /// Whether it was the first of them.
        first: bool,
    },
    /// A device that was up, with what the kernel takes away when it goes down.
    Up { name: String, on_it: OnDevice },
    Bridge {
        link: KeptLink,
        on_it: OnDevice,
        /// Its own settings, by group and name.
        #[serde(default)]
        settings: BTreeMap<String, String>,
    },
    /// A device that cannot be made again.
    Device { name: String },
}

/// What ends with a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDevice {
    index: u32,
    addresses: Vec<KeptAddress>,
    routes: Vec<KeptRoute>,
}

/// Why a thing was not put back.
#[derive(Debug, thiserror::Error)]
pub enum NotPutBack {
    /// No later try will do it either.
    #[error("{0}")]
    Never(String),
    #[error("{0:#}")]
    NotNow(#[from] anyhow::Error),
}

/// Whether the thing that a step takes away is exactly as planned. Fails with what is not.
pub fn ensure_as_planned(kernel: &Kernel, action: &Action) -> anyhow::Result<()> {
    match action {
        Action::DeleteRoute { route, devices } => find_route(kernel, route, devices).map(drop),
        Action::SetLinkDown { link } => {
            let (_, now) = find_link(kernel, link)?;
            ensure!(now.up, "{} is down already", link.name);
            Ok(())
        }
        Action::DeleteLink { link, .. } => find_link(kernel, link).map(drop),
    }
}

/// The same right before the step, with what putting it back needs.
pub fn look(kernel: &Kernel, action: &Action) -> anyhow::Result<Before> {
    ensure_as_planned(kernel, action)?;
    match action {
        Action::DeleteRoute { route, devices } => {
            let found = find_route(kernel, route, devices)?;
            Ok(found)
        }
        Action::SetLinkDown { link } => {
            ensure_unused(kernel, link)?;
            Ok(Before::Up { name: link.name.clone(), on_it: on_device(kernel, link.index)? })
        }
        Action::DeleteLink { link, .. } => {
            ensure_unused(kernel, link)?;
            let (kept, now) = find_link(kernel, link)?;
            Ok(match now.kind.as_deref() {
                Some("bridge") => Before::Bridge {
                    link: kept,
                    on_it: on_device(kernel, link.index)?,
                    settings: device_settings::read(&link.name),
                },
                _ => Before::Device { name: link.name.clone() },
            })
        }
    }
}

/// A route without what the kernel finds out by itself.
pub(super) fn given(route: &Route) -> Route {
    let hop = |hop: &Hop| Hop { dead: false, link_down: false, ..hop.clone() };
    Route { hops: route.hops.iter().map(hop).collect(), ..route.clone() }
}

fn have_one_key(one: &Route, other: &Route) -> bool {
    let key = |route: &Route| (route.table, route.destination, route.tos, route.metric);
    key(one) == key(other)
}

fn find_route(kernel: &Kernel, planned: &Route, names: &[Option<String>]) -> anyhow::Result<Before> {
    let destination = planned.destination;
    let routes = kernel.routes()?;
    let same: Vec<&(KeptRoute, Route)> =
        routes.iter().filter(|(_, route)| have_one_key(route, planned)).collect();
    ensure!(!same.is_empty(), "the route to {destination} is not there any more");
    let found = same.iter().position(|(_, route)| given(route) == given(planned));
    let found = found.with_context(|| format!("the route to {destination} has changed since the plan"))?;
    let links = kernel.links()?;
    let name = |index: u32| links.iter().find(|(_, link)| link.index == index).map(|(_, link)| &link.name);
    let now = planned.hops.iter().map(|hop| hop.link.and_then(name));
    ensure!(
        now.eq(names.iter().map(Option::as_ref)),
        "the route to {destination} leads by other devices than the plan says"
    );
    let (route, _) = same[found];
    let devices = route.devices().into_iter().filter_map(|index| Some((index, name(index)?.clone())));
    Ok(Before::Route {
        devices: devices.collect(),
        route: route.clone(),
        beside: same
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != found)
            .map(|(_, (kept, _))| kept.clone())
            .collect(),
        first: found == 0,
    })
}

/// A device by its name and index, no port, no other than planned, and without traffic since.
fn find_link(kernel: &Kernel, planned: &Link) -> anyhow::Result<(KeptLink, Link)> {
    let name = &planned.name;
    let links = kernel.links()?;
    let port = links.iter().find(|(_, link)| link.master == Some(planned.index));
    ensure!(port.is_none(), "{name} has a port now: {}", port.map_or("", |(_, link)| &link.name));
    let found = links.into_iter().find(|(_, link)| link.index == planned.index);
    let (kept, now) = found.with_context(|| format!("{name} is not there any more"))?;
    let identity = |link: &Link| {
        let Link {
            name, kind, link_layer_type, mtu, hardware_address, master, lower, peer_namespace, ..
        } = link.clone();
        (name, kind, link_layer_type, mtu, hardware_address, master, lower, peer_namespace)
    };
    ensure!(identity(&now) == identity(planned), "{name} is not as planned any more");
    let received = now.statistics.rx_packets.saturating_sub(planned.statistics.rx_packets);
    ensure!(received == 0, "{name} is in use: it has received {received} packets since the plan");
    Ok((kept, now))
}

/// What no step before this one has taken away would go with the device.
fn ensure_unused(kernel: &Kernel, link: &Link) -> anyhow::Result<()> {
    let by_it = kernel.routes()?.into_iter().find(|(_, route)| {
        route.protocol != PROTOCOL_KERNEL && route.hops.iter().any(|hop| hop.link == Some(link.index))
    });
    if let Some((_, route)) = by_it {
        bail!("the route to {} leads by {}", route.destination, link.name);
    }
    // The kernel takes them away for good with the device's state.
    let object = next_hops::read()?.into_iter().find(|object| object.hop.link == Some(link.index));
    ensure!(object.is_none(), "a next-hop object leads by {}", link.name);
    Ok(())
}

fn on_device(kernel: &Kernel, index: u32) -> anyhow::Result<OnDevice> {
    let is_on_it = |route: &KeptRoute| route.devices().contains(&index);
    let routes = kernel.routes()?.into_iter();
    let routes = routes.filter(|(_, route)| route.table != TABLE_LOCAL).map(|(kept, _)| kept);
    // The kernel's own come back with the device.
    let ipv6 = kernel.ipv6_routes()?.into_iter().filter(|route| route.protocol() != PROTOCOL_KERNEL);
    let addresses = kernel.addresses()?.into_iter().filter(|address| address.link() == index);
    Ok(OnDevice {
        index,
        addresses: addresses.collect(),
        routes: routes.chain(ipv6).filter(is_on_it).collect(),
    })
}

/// Takes the thing away.
pub fn carry_out(kernel: &Kernel, action: &Action, before: &Before) -> anyhow::Result<()> {
    match (action, before) {
        (Action::DeleteRoute { route, .. }, Before::Route { route: kept, .. }) => {
            let request = kept.request(Some).context("the kernel's own words make no request")?;
            kernel.delete_route(&request).with_context(|| format!("cannot delete {}", route.destination))
        }
        (Action::SetLinkDown { link }, _) => {
            kernel.set_up(link.index, false).with_context(|| format!("cannot set {} down", link.name))
        }
        (Action::DeleteLink { link, .. }, _) => {
            kernel.delete_link(link.index).with_context(|| format!("cannot delete {}", link.name))
        }
        (Action::DeleteRoute { .. }, _) => bail!("what was kept is of no route"),
    }
}

/// Puts back what a step took away, wholly or in part, or was about to. What is there already is fine.
pub fn put_back(kernel: &Kernel, before: &Before) -> Result<(), NotPutBack> {
    match before {
        Before::Route { route, devices, beside, first } => {
            put_route_back(kernel, route, devices, beside, *first)
        }
        Before::Up { name, on_it } => {
            let index = index_of(kernel, name)?
                .ok_or_else(|| NotPutBack::Never(format!("{name} is gone, so it cannot be set up")))?;
            give_addresses(kernel, name, index, on_it)?;
            kernel.set_up(index, true).with_context(|| format!("cannot set {name} up"))?;
            add_routes(kernel, name, index, on_it)
        }
        Before::Bridge { link, on_it, settings } => put_bridge_back(kernel, link, on_it, settings),
        Before::Device { name } => match index_of(kernel, name)? {
            Some(_) => Ok(()),
            None => {
                Err(NotPutBack::Never(format!("{name} cannot be made again: its other end went with it")))
            }
        },
    }
}

fn index_of(kernel: &Kernel, name: &str) -> anyhow::Result<Option<u32>> {
    let links = kernel.links()?;
    Ok(links.into_iter().find(|(_, link)| link.name == name).map(|(_, link)| link.index))
}

fn put_route_back(
    kernel: &Kernel,
    route: &KeptRoute,
    names: &[(u32, String)],
    beside: &[KeptRoute],
    first: bool,
) -> Result<(), NotPutBack> {
    let indices: BTreeMap<String, u32> =
        kernel.links()?.into_iter().map(|(_, link)| (link.name, link.index)).collect();
    let device = |then: u32| {
        let (_, name) = names.iter().find(|(index, _)| *index == then)?;
        indices.get(name).copied()
    };
    let gone = || {
        let gone = names.iter().map(|(_, name)| name).find(|name| !indices.contains_key(*name));
        NotPutBack::Never(format!("a device of the route is gone: {}", gone.map_or("", |name| name)))
    };
    let request = route.request(device).ok_or_else(gone)?;
    let now = kernel.routes()?;
    let as_request = |route: &KeptRoute| route.request(Some);
    let Some(wanted) = KeptRoute::new(request.clone()).and_then(|wanted| kernel_reads(&wanted)) else {
        return Err(NotPutBack::Never("the route that was kept is not readable".to_owned()));
    };
    let known: Vec<Vec<u8>> =
        beside.iter().filter_map(|route| route.request(device).or_else(|| as_request(route))).collect();
    let same: Vec<&(KeptRoute, Route)> =
        now.iter().filter(|(_, route)| have_one_key(route, &wanted)).collect();
    if same.iter().any(|(kept, _)| as_request(kept).as_ref() == Some(&request)) {
        return Ok(());
    }
    if let Some((_, other)) =
        same.iter().find(|(kept, _)| !as_request(kept).is_some_and(|request| known.contains(&request)))
    {
        return Err(NotPutBack::Never(format!(
            "another route to {} is there now, and stays",
            other.destination
        )));
    }
    let place = if first { Place::First } else { Place::Last };
    there(kernel.add_route(&request, place))
        .with_context(|| format!("cannot add the route to {}", wanted.destination))?;
    Ok(())
}

fn kernel_reads(route: &KeptRoute) -> Option<Route> {
    use rtnetlink::{packet_core::Parseable as _, packet_route::route::RouteMessage};
    crate::sources::netlink::read_route(&RouteMessage::parse(route.bytes()).ok()?)
}

fn put_bridge_back(
    kernel: &Kernel,
    kept: &KeptLink,
    on_it: &OnDevice,
    settings: &BTreeMap<String, String>,
) -> Result<(), NotPutBack> {
    let name = kept.name();
    let find = || -> anyhow::Result<Option<(KeptLink, Link)>> {
        Ok(kernel.links()?.into_iter().find(|(_, link)| link.name == name))
    };
    if let Some((now, _)) = find()? {
        let has_other_address =
            kept.hardware_address().is_some_and(|address| now.hardware_address() != Some(address));
        if now.kind() != kept.kind() || has_other_address {
            return Err(NotPutBack::Never(format!("another {name} is there now, and stays")));
        }
    } else {
        let request = kept.request();
        let request = request.ok_or_else(|| NotPutBack::Never(format!("{name} is not readable")))?;
        kernel.add_link(&request).with_context(|| format!("cannot make {name}"))?;
    }
    let (now, link) = find()?.with_context(|| format!("{name} was made, and is not there"))?;
    let index = link.index;
    // Before it is up, when some of them would act.
    let set = device_settings::put_back(&name, settings);
    give_addresses(kernel, &name, index, on_it)?;
    kernel.change_link(&kept.flags_request(index)).with_context(|| format!("cannot set {name} as it was"))?;
    add_routes(kernel, &name, index, on_it)?;
    let requests = kept.option_requests(&now, index);
    let mut refused = Ok(());
    for request in requests {
        refused = refused.and(kernel.change_link(&request));
    }
    refused.map_err(|error| NotPutBack::Never(format!("{name} is back, but for an option: {error}")))?;
    set.map_err(|error| NotPutBack::Never(format!("{name} is back, but for a setting: {error}")))
}

fn give_addresses(kernel: &Kernel, name: &str, index: u32, on_it: &OnDevice) -> Result<(), NotPutBack> {
    for address in &on_it.addresses {
        there(kernel.add_address(&address.request(index)))
            .with_context(|| format!("cannot give {name} an address back"))?;
    }
    Ok(())
}

fn add_routes(kernel: &Kernel, name: &str, index: u32, on_it: &OnDevice) -> Result<(), NotPutBack> {
    for route in &on_it.routes {
        let device = |then| Some(if then == on_it.index { index } else { then });
        let Some(request) = route.request(device) else { continue };
        there(kernel.add_route(&request, Place::Last))
            .with_context(|| format!("cannot add a route by {name} again"))?;
    }
    Ok(())
}

/// What is there already is fine.
fn there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}
