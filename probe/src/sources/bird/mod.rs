//! BIRD, asked at its control socket in the protocol of its own client (bird, `doc/reply_codes`, `client/`).
//! Calico's BIRD is a fork of 1.6; 2.x differs in a few headings, which are read as well.

pub mod configuration;
pub mod protocols;
mod reply;
pub mod routes;
mod socket;

use std::{path::Path, time::Duration};

use anyhow::Context as _;

use crate::sample::{BgpSession, Bird, Fact, Process};
use reply::Session;

/// All of a conversation together; a healthy BIRD answers in milliseconds, a full one of 10,000 routes in tenths.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the BIRD of this node; the error says why there is no answer.
pub async fn read(root: &Path, processes: &[Process]) -> anyhow::Result<Bird> {
    let path = socket::find(root, processes)?;
    patiently(&path, ask(&path)).await
}

/// The sessions of this node's BIRD, without its routes.
pub async fn sessions(root: &Path, processes: &[Process]) -> anyhow::Result<Vec<BgpSession>> {
    Ok(without_routes(root, processes).await?.sessions)
}

/// Its sessions and whether it recovers from a restart.
pub async fn without_routes(root: &Path, processes: &[Process]) -> anyhow::Result<Bird> {
    let path = socket::find(root, processes)?;
    patiently(&path, async {
        let (mut session, _) = Session::open(&path).await?;
        session.command("restrict").await?;
        let status = session.command("show status").await?;
        let bird = protocols::parse(&session.command("show protocols all").await?);
        Ok(Bird { recovering: is_recovering(&status), ..bird })
    })
    .await
}

async fn patiently<T>(path: &Path, answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .with_context(|| format!("BIRD did not answer at {} within {PATIENCE:?}", path.display()))?
        .with_context(|| format!("BIRD at {}", path.display()))
}

async fn ask(path: &Path) -> anyhow::Result<Bird> {
    let (mut session, greeting) = Session::open(path).await?;
    // A session that cannot change anything, whatever is sent.
    session.command("restrict").await?;
    let status = session.command("show status").await?;
    let protocols = session.command("show protocols all").await?;
    let mut bird = protocols::parse(&protocols);
    bird.version = greeting.map_or_else(|| Fact::Absent("BIRD sent no version".to_owned()), Fact::Known);
    bird.router_id = protocols::router_id(&status);
    bird.recovering = is_recovering(&status);
    bird.routes = Fact::from_result(session.command("show route all").await.map(|text| routes::parse(&text)));
    Ok(bird)
}

fn is_recovering(status: &str) -> bool {
    status.contains("Graceful restart recovery in progress")
}
