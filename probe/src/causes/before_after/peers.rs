//! BGP sessions that BIRD has no more, or has now. One that is down is a condition.

use super::{Change, Happened, Meaning};
use crate::{
    model::{Model, peers::Peer},
    report::document::SubjectKind,
    sample::BgpSession,
};

pub fn judge(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let Some(was) = before.sample.bird.known() else { return Vec::new() };
    let Some(is) = after.sample.bird.known() else {
        let why = after.sample.bird.absent().unwrap_or_default();
        let summary = format!("BIRD cannot be asked for its sessions any more: {why}");
        let subject = (SubjectKind::Node, after.node_name());
        return vec![Change::new((Happened::Went, Meaning::Unknown), subject, summary)];
    };
    let has = |sessions: &[BgpSession], wanted: &BgpSession| {
        sessions.iter().any(|session| session.peer == wanted.peer)
    };
    let gone = was.sessions.iter().filter(|session| !has(&is.sessions, session));
    let came = is.sessions.iter().filter(|session| !has(&was.sessions, session));
    let came = came.map(|session| {
        let peer = session.peer.to_string();
        let summary = format!("a BGP session to {peer} came");
        Change::new((Happened::Came, Meaning::Harmless), (SubjectKind::Peer, peer), summary)
    });
    gone.map(|session| session_gone(after, session)).chain(came).collect()
}

fn session_gone(after: &Model<'_>, session: &BgpSession) -> Change {
    let peer = Peer::of(after, session.peer);
    let hosts = after.sample.sets.hosts.known();
    let is_host = hosts.is_some_and(|hosts| hosts.iter().any(|host| host.contains(&session.peer)));
    let (meaning, why) = match (session.established, is_host, peer.blocks.len()) {
        (true, true, _) => (Meaning::Regression, "it is a node of the cluster still".to_owned()),
        (true, false, 1..) => (Meaning::Regression, "its blocks are routed as they were before".to_owned()),
        (true, false, 0) if hosts.is_none() => {
            (Meaning::Unknown, "whether it is a node of the cluster still is not known here".to_owned())
        }
        (true, false, 0) => (Meaning::Harmless, "it is no node of the cluster any more".to_owned()),
        (false, ..) => (Meaning::Harmless, "it was not Established".to_owned()),
    };
    let summary = format!("BIRD has no session to {} any more: {why}", peer.words());
    Change::new((Happened::Went, meaning), (SubjectKind::Peer, session.peer.to_string()), summary)
}
