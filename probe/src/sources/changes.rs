//! Tells when links, addresses, routes or rules change. What changed is then read anew as a whole.

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream::BoxStream};
use rtnetlink::{MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload};
use tokio::task::JoinHandle;

const GROUPS: [MulticastGroup; 4] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Rule];

/// What a notification tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Something,
    /// The kernel had no room for more notifications (`ENOBUFS`): anything may have changed.
    Lost,
}

/// A subscription to changes of the network namespace in which it was opened.
pub struct Changes {
    messages: BoxStream<'static, Change>,
    connection: JoinHandle<()>,
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Changes {
    pub fn subscribe() -> anyhow::Result<Self> {
        let (connection, _, messages) =
            new_multicast_connection(&GROUPS).context("cannot subscribe to changes of the network")?;
        let messages = messages.map(|(message, _)| match message.payload {
            NetlinkPayload::Overrun(_) => Change::Lost,
            _ => Change::Something,
        });
        Ok(Self { messages: messages.boxed(), connection: tokio::spawn(connection) })
    }

    /// Waits for a change. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<Change> {
        match self.messages.next().await {
            Some(change) => Ok(change),
            None => bail!("the kernel closed the subscription to changes of the network"),
        }
    }
}
