//! Routes that come and go while somebody watches, from the kernel's own notifications.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use rtnetlink::{
    MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage,
};

use super::netlink::read_route;
use crate::sample::{RouteChange, RouteWatch};

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
