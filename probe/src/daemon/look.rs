//! A short look at packets that rules of netfilter drop: the hook shows in the kernel's stack, which takes too long
//! for every drop. It is a diagnosis that sends nothing.

use std::time::Duration;

use crate::{
    causes::{
        opening::{Judged, of_document},
        trail::DeviceRole,
    },
    diagnosis::{Diagnosis, Question},
    kernel::trace::TraceRequest,
    model::Model,
    probing::{follow, follower::Follower, marks::Follow},
    sample::Sample,
    sources::{self, GatherOptions, packet_socket},
};

/// How long packets are looked at.
const LENGTH: Duration = Duration::from_secs(1);

/// Looks at the packets of a question, and judges them; `None` where none passed meanwhile. Without `CAP_NET_RAW` there
/// are no taps, and the drops alone tell the hook.
pub(super) async fn look_at(
    options: GatherOptions,
    mut before: Sample,
    question: Question,
) -> anyhow::Result<Option<Judged>> {
    sources::gather_rules(&options, &mut before);
    let Some(source) = question.senders.first().and_then(|chosen| chosen.sender.address()) else {
        return Ok(None);
    };
    let request = TraceRequest {
        follow: Follow::Pair { source, target: question.target },
        taps: if packet_socket::open().is_ok() { taps(&before, &question) } else { Vec::new() },
        network_namespace: before.node.network_namespace,
    };
    let mut follower = Follower::start(&request)?;
    let observed = follow::watch_only(&mut follower, LENGTH).await?;
    drop(follower);
    if observed.drops.is_empty() {
        return Ok(None);
    }
    let mut after = sources::gather(&options).await?;
    sources::gather_rules(&options, &mut after);
    let diagnosis = Diagnosis { passive: true, question, before, after, observed, far: None };
    Ok(diagnosis.documents().into_iter().next().and_then(of_document))
}

/// The devices whose traffic tells where these packets are.
fn taps(sample: &Sample, question: &Question) -> Vec<u32> {
    let model = Model::new(sample);
    let pods = question.pod_links(&model);
    let links = sample.links.iter().filter(|link| match DeviceRole::of(link) {
        DeviceRole::Tunnel => true,
        DeviceRole::Pod => pods.contains(&link.index),
        DeviceRole::Wire => model.is_wire(link.index),
    });
    links.map(|link| link.index).collect()
}
