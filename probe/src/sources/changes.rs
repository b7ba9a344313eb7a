//! Tells when links, addresses, routes or rules change. What changed is then read anew as a whole: an overrun, in
//! which the kernel drops messages, is a change like any other.

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream::BoxStream};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::task::JoinHandle;

const GROUPS: [MulticastGroup; 4] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Rule];

/// A subscription to changes of the network namespace in which it was opened.
pub struct Changes {
    messages: BoxStream<'static, ()>,
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
        Ok(Self { messages: messages.map(|_| ()).boxed(), connection: tokio::spawn(connection) })
    }

    /// Waits for a change. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<()> {
        match self.messages.next().await {
            Some(()) => Ok(()),
            None => bail!("the kernel closed the subscription to changes of the network"),
        }
    }
}
