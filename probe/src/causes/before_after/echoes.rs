//! Who answered then and who answers now.

use std::net::Ipv4Addr;

use super::{Change, Happened, Meaning, is_of_ended_pod};
use crate::{
    model::Model,
    report::document::SubjectKind,
    sample::{Echo, Sample},
};

pub fn judge(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let was = known(before.sample);
    let answered_before = |echo: &Echo| {
        was.iter().find(|other| other.address == echo.address).map(|other| other.rtt_us.is_some())
    };
    known(after.sample)
        .iter()
        .filter(|echo| !is_of_ended_pod(before, after, echo.address))
        .filter_map(|echo| {
            let name = words(before, echo);
            let (how, what) = match (echo.rtt_us, answered_before(echo)) {
                (None, Some(true)) => {
                    ((Happened::Went, Meaning::Regression), "answered before, and does not any more")
                }
                (None, Some(false)) => ((Happened::Stayed, Meaning::Dark), "does not answer, as before"),
                (None, None) => (
                    (Happened::Stayed, Meaning::Unknown),
                    "does not answer, and nobody asked before: `snapshot save --probe` does",
                ),
                (Some(_), Some(false)) => {
                    ((Happened::Came, Meaning::Healed), "answers now, and did not before")
                }
                (Some(_), _) => return None,
            };
            let subject = match echo.peer {
                Some(peer) => (SubjectKind::Peer, peer.to_string()),
                None => (SubjectKind::Pod, echo.address.to_string()),
            };
            Some(Change::new(how, subject, format!("{name} {what}")))
        })
        .collect()
}

fn known(sample: &Sample) -> &[Echo] {
    sample.echoes.known().map_or(&[], Vec::as_slice)
}

fn words(model: &Model<'_>, echo: &Echo) -> String {
    let address: Ipv4Addr = echo.address;
    match (echo.peer, model.pod_name(address)) {
        (Some(peer), _) => format!("the tunnel's end {address} of {peer}"),
        (None, Some(pod)) => format!("pod {pod} ({address})"),
        (None, None) => format!("pod {address}"),
    }
}

/// Why nobody was asked, or how many were not.
pub fn not_seen(after: &Model<'_>) -> Option<String> {
    match after.sample.echoes.known() {
        Some(_) => None,
        None => Some("routes and settings were compared, nothing was sent; --probe asks".to_owned()),
    }
}
