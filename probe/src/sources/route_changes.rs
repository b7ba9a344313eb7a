//! Routes that come and go while somebody watches, from the kernel's own notifications.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream::BoxStream};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::AsyncSocket as _,
};
use tokio::task::JoinHandle;

use super::netlink::read_route;
use crate::sample::{Route, RouteChange, RouteWatch};

/// A table that changes more often is remembered no further.
const MOST_CHANGES: usize = 10_000;

/// Watches for a while.
pub async fn watch(duration: Duration) -> anyhow::Result<RouteWatch> {
    let (connection, _, mut messages) = new_multicast_connection(&[MulticastGroup::Ipv4Route])
        .context("cannot subscribe to changes of routes")?;
    let connection = tokio::spawn(connection);
    let mut changes = Vec::new();
    let deadline = tokio::time::sleep(duration);
    tokio::pin!(deadline);
    while changes.len() < MOST_CHANGES {
        let message = tokio::select! {
            () = &mut deadline => break,
            message = messages.next() => message,
        };
        let Some((message, _)) = message else {
            bail!("the kernel closed the subscription to changes of routes")
        };
        if let NetlinkPayload::InnerMessage(message) = message.payload {
            changes.extend(change(&message));
        }
    }
    connection.abort();
    Ok(RouteWatch { milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), changes })
}

fn change(message: &RouteNetlinkMessage) -> Option<RouteChange> {
    let (route, removed) = match message {
        RouteNetlinkMessage::NewRoute(route) => (route, false),
        RouteNetlinkMessage::DelRoute(route) => (route, true),
        _ => return None,
    };
    let route = read_route(route)?;
    Some(RouteChange { destination: route.destination, protocol: route.protocol, removed })
}

/// Room for the notifications of ten thousand routes that go at once; the kernel's default has room for a few hundred.
const ROOM: usize = 8 << 20;

/// What a notification tells of the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Added {
        route: Route,
        /// It took the place of another one of the same destination, type of service and metric (`NLM_F_REPLACE`).
        replaces: bool,
    },
    Removed(Route),
    /// Routes may have gone that the kernel says nothing of, as where a device goes down (`fib_sync_down_dev`):
    /// everything is to be read anew.
    Devices,
    /// The kernel had no room for more notifications (`ENOBUFS`): anything may have changed.
    Lost,
}

/// A subscription to each change of the routes of the network namespace in which it was opened.
pub struct Notices {
    messages: BoxStream<'static, Notice>,
    connection: JoinHandle<()>,
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Notices {
    pub fn subscribe() -> anyhow::Result<Self> {
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
        let (mut connection, _, messages) =
            new_multicast_connection(&groups).context("cannot subscribe to changes of routes")?;
        // Without the privilege it is the default, and what is lost is read anew.
        let _ = setsockopt(connection.socket_mut().socket_ref(), RcvBufForce, &ROOM);
        let notices = messages.filter_map(|(message, _)| std::future::ready(notice(message)));
        Ok(Self { messages: notices.boxed(), connection: tokio::spawn(connection) })
    }

    /// Waits for a change. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<Notice> {
        match self.messages.next().await {
            Some(notice) => Ok(notice),
            None => bail!("the kernel closed the subscription to changes of routes"),
        }
    }
}

fn notice(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Notice> {
    let replaces = message.header.flags & NLM_F_REPLACE != 0;
    match message.payload {
        NetlinkPayload::Overrun(_) => Some(Notice::Lost),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
            read_route(&route).map(|route| by_object(&route).unwrap_or(Notice::Added { route, replaces }))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => {
            read_route(&route).map(|route| by_object(&route).unwrap_or(Notice::Removed(route)))
        }
        _ => Some(Notice::Devices),
    }
}

/// The hops of a route may be in a next-hop object, which is to be asked for.
fn by_object(route: &Route) -> Option<Notice> {
    route.next_hop_id.map(|_| Notice::Devices)
}
