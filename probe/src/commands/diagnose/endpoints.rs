//! The words of the command line made into a target and senders of this node.

use std::net::Ipv4Addr;

use anyhow::{anyhow, bail};

use crate::{
    causes::case::Sender,
    cli::EndpointName,
    diagnosis::{ChosenSender, Question},
    model::Model,
    observation::Traffic,
    sample::Sample,
    sources::cni,
};

/// Finds target and senders; the error says what was wrong and what there is instead.
pub fn resolve(
    sample: &Sample,
    target: &EndpointName,
    from: Option<&EndpointName>,
    passive: bool,
) -> anyhow::Result<Question> {
    let model = Model::new(sample);
    ensure_calico(&model)?;
    let target = match target {
        EndpointName::Host => bail!("`host` can only be a source; the target is a pod"),
        EndpointName::Address(address) => *address,
        other => pod_of(&model, other)?.1,
    };
    ensure_pod_address(&model, target)?;
    let senders = match from {
        Some(name) => vec![ChosenSender { sender: sender_of(&model, name, passive)?, chosen: false }],
        None => chosen_senders(&model, target),
    };
    Ok(Question { target, senders, traffic: Traffic::default() })
}

fn ensure_calico(model: &Model<'_>) -> anyhow::Result<()> {
    let pods = !model.pods().is_empty() || model.pod_links_without_route().next().is_some();
    match (model.tunnel(), model.pools.is_empty(), pods) {
        (_, true, false) => {
            bail!(
                "no Calico here: no cali* interface, no pod route and no Felix set; run it on a node, in the host's network namespace"
            )
        }
        (None, _, _) if model.needs_tunnel().is_none() => {
            bail!(
                "this node has no tunl0, and nothing says that it needs one: caliprobe diagnoses Calico's IPIP mode"
            )
        }
        (_, true, _) => {
            bail!("no pod pool is known: no Felix set and no pod route tells one; name it with --pool CIDR")
        }
        _ => Ok(()),
    }
}

/// Only pods' addresses are the pod network's business.
fn ensure_pod_address(model: &Model<'_>, target: Ipv4Addr) -> anyhow::Result<()> {
    if model.is_node(target) || (model.is_local(target) && model.pool_of(target).is_none()) {
        bail!(
            "{target} is a node's own address: pods with host network use it, and no tunnel carries it; try ping {target}"
        );
    }
    if model.is_tunnel_address(target) {
        bail!("{target} is this node's own tunnel address, not a pod's");
    }
    if model.pool_of(target).is_some() {
        return Ok(());
    }
    let pools: Vec<String> =
        model.pools.iter().map(|pool| format!("{} ({})", pool.cidr, pool.source.words())).collect();
    bail!(
        "{target} is outside every pod pool: {}. If it is a Service, diagnose one of its pods; if a pool is missing, name it with --pool CIDR",
        pools.join(", ")
    )
}

/// The link and address of a pod of this node.
fn pod_of(model: &Model<'_>, name: &EndpointName) -> anyhow::Result<(u32, Ipv4Addr)> {
    match name {
        EndpointName::Host => bail!("`host` is no pod"),
        EndpointName::Address(address) => match model.pod(*address) {
            Some(pod) => Ok((pod.link, *address)),
            None => Err(unknown_pod(model, &address.to_string())),
        },
        EndpointName::Interface(name) => {
            let link = model.link_by_name(name).ok_or_else(|| unknown_pod(model, name))?;
            let pod = model.pods().iter().find(|pod| pod.link == link.index);
            let address = pod.map(|pod| pod.address).or_else(|| cached_address(model, name));
            Ok((
                link.index,
                address
                    .ok_or_else(|| anyhow!("no route and no CNI result tells the address behind {name}"))?,
            ))
        }
        EndpointName::Pod { namespace, name } => {
            let interface = cni::interface_name(namespace, name);
            pod_of(model, &EndpointName::Interface(interface))
                .map_err(|_| unknown_pod(model, &format!("{namespace}/{name}")))
        }
    }
}

fn cached_address(model: &Model<'_>, interface: &str) -> Option<Ipv4Addr> {
    let results = model.sample.cni_results.known()?;
    let result = results.iter().find(|result| result.host_interface.as_deref() == Some(interface))?;
    result.addresses.first().copied()
}

/// How many of this node's pods an error names.
const NAMED_PODS: usize = 5;

fn unknown_pod(model: &Model<'_>, wanted: &str) -> anyhow::Error {
    let pods = model.pods();
    let mut known: Vec<String> = pods
        .iter()
        .take(NAMED_PODS)
        .map(|pod| match model.pod_name(pod.address) {
            Some(name) => format!("{} ({name})", pod.address),
            None => pod.address.to_string(),
        })
        .collect();
    if pods.len() > NAMED_PODS {
        known.push(format!("and {} more", pods.len() - NAMED_PODS));
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    anyhow!("no pod of this node is {wanted}; its pods are: {known}")
}

fn sender_of(model: &Model<'_>, name: &EndpointName, passive: bool) -> anyhow::Result<Sender> {
    match name {
        EndpointName::Host => Ok(Sender::Host { address: None }),
        EndpointName::Address(address) if passive && !model.is_local_pod(*address) => {
            Ok(Sender::Remote { address: *address })
        }
        EndpointName::Address(address)
            if !model.is_local_pod(*address)
                && model.pool_of(*address).is_some()
                && model.own_block(*address).is_none() =>
        {
            bail!(
                "{address} is not on this node, so nothing can be sent from it; run caliprobe on its node, or watch with --passive"
            )
        }
        other => {
            let (link, address) = pod_of(model, other)?;
            Ok(Sender::Pod { link, address })
        }
    }
}

/// A pod of this node that can send, and the host.
fn chosen_senders(model: &Model<'_>, target: Ipv4Addr) -> Vec<ChosenSender> {
    let usable = |index: u32| model.link(index).is_some_and(|link| link.up && link.carrier);
    let pod = model.pods().iter().find(|pod| pod.address != target && usable(pod.link));
    let pod = pod.map(|pod| Sender::Pod { link: pod.link, address: pod.address });
    let senders = pod.into_iter().chain([Sender::Host { address: None }]);
    senders.map(|sender| ChosenSender { sender, chosen: true }).collect()
}
