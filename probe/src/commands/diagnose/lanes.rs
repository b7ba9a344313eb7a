//! The sockets of a diagnosis, opened where its senders are, and what they send first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use anyhow::Context as _;

use crate::{
    causes::case::Sender,
    cli::{DiagnoseArgs, Global},
    diagnosis::{ChosenSender, Question},
    model::{
        Model,
        routing::{Decision, Flow, look_up},
    },
    observation::{Series, Traffic},
    probing::{
        echo::EchoSocket,
        follow::{Lane, ProbeSocket},
        marks::{Cookie, Marks, ProbeNumber},
        port::PortSockets,
        rounds,
    },
    sample::Sample,
    sources::namespace::NetworkNamespace,
};

/// Echo requests beside the probes of a port.
const BESIDE: usize = 3;
/// Source ports over which a route with several next hops is tried.
const OVER_HOPS: usize = 16;

/// Lanes, and how their probes are known.
pub struct Opened {
    pub lanes: Vec<Lane>,
    pub marks: Marks,
}

/// Opens them all; nothing is sent yet.
pub fn open(
    args: &DiagnoseArgs,
    question: &Question,
    model: &Model<'_>,
    global: &Global,
) -> anyhow::Result<Opened> {
    let cookie = Cookie::random();
    let mut lanes = Vec::new();
    let mut sent_from = BTreeMap::new();
    for (sender, chosen) in (0..Series::SENDERS).zip(&question.senders) {
        let echo = at_sender(chosen, model.sample, global, EchoSocket::open)?.register(cookie)?;
        let echo = || ProbeSocket::Echo(echo.clone());
        let lane = |series, socket, first| Lane { series, sender, socket, first };
        let asked = probes_of(args, question, model, &chosen.sender);
        if question.traffic == Traffic::Echo {
            lanes.push(lane(Series::Asked, echo(), asked));
        } else {
            let taken: BTreeSet<u16> = sent_from.keys().copied().collect();
            let (traffic, count) = (question.traffic, asked.len() + rounds::MOST_MORE);
            let sockets = at_sender(chosen, model.sample, global, move |source| {
                PortSockets::open(traffic, source, count, &taken)
            })?;
            let numbers = (0..).map(|sequence| ProbeNumber { flow: Series::Asked.flow(sender), sequence });
            sent_from.extend(sockets.ports().zip(numbers));
            lanes.push(lane(Series::Asked, ProbeSocket::Port(sockets.with_cookie(cookie)), asked));
            lanes.push(lane(Series::Echo, echo(), vec![None; BESIDE]));
        }
        if let Some(mtu) = mtu_of(question, model, &chosen.sender) {
            lanes.push(lane(Series::Sizes, echo(), rounds::first_sizes(mtu)));
        }
    }
    let marks = Marks { cookie, target: question.target, traffic: question.traffic, sent_from };
    Ok(Opened { lanes, marks })
}

/// As many as were asked for; enough to meet every next hop where ports choose among them.
fn probes_of(
    args: &DiagnoseArgs,
    question: &Question,
    model: &Model<'_>,
    sender: &Sender,
) -> Vec<Option<u16>> {
    let by_port = model.sample.sysctls.fib_multipath_hash_policy.is_some_and(|policy| policy >= 1);
    let several = matches!(
        look_up(model, &flow(question, sender)),
        Decision::Route { hops, .. } if hops.len() > 1
    );
    let least = if question.traffic != Traffic::Echo && by_port && several { OVER_HOPS } else { 0 };
    vec![None; usize::from(args.count).max(least)]
}

fn flow(question: &Question, sender: &Sender) -> Flow {
    Flow {
        source: sender.address(),
        destination: question.target,
        input_link: sender.link(),
        mark: 0,
        tos: 0,
    }
}

/// The MTU of the device by which the sender's packets leave it.
fn mtu_of(question: &Question, model: &Model<'_>, sender: &Sender) -> Option<u16> {
    let link = sender.link().or_else(|| match look_up(model, &flow(question, sender)) {
        Decision::Route { hops, .. } => hops.first().and_then(|hop| hop.link),
        _ => None,
    })?;
    let mtu = model.link(link)?.mtu;
    Some(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// Opens something in the network namespace of a sender, with its address.
pub fn at_sender<T: Send>(
    chosen: &ChosenSender,
    before: &Sample,
    global: &Global,
    open: impl FnOnce(Option<Ipv4Addr>) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    match &chosen.sender {
        Sender::Pod { link, address } => {
            let address = *address;
            pod_namespace(before, *link, global)?.enter(move || open(Some(address)))?
        }
        Sender::Host { .. } | Sender::Remote { .. } => open(None),
    }
}

/// The network namespace behind a pod's veth.
fn pod_namespace(before: &Sample, link: u32, global: &Global) -> anyhow::Result<NetworkNamespace> {
    let link =
        before.links.iter().find(|other| other.index == link).context("the pod's interface has vanished")?;
    let id = link
        .peer_namespace
        .with_context(|| format!("{} does not say in which network namespace its peer is", link.name))?;
    NetworkNamespace::find_by_id(&global.root, id)?.with_context(|| {
        format!(
            "the network namespace behind {} is not to be found under {}",
            link.name,
            global.root.display()
        )
    })
}
