//! Whose a bridge is. A name tells who may have made it, and they are asked: what they know stays, what a name that
//! nobody gives tells nothing of stays too.

use super::{devices::stays, evidence};
use crate::{
    model::{Model, rows::is_docker_bridge},
    plan::Kept,
    report::document::{Evidence, EvidenceSource},
    sample::{Fact, Link, OwnedDevice, Owner, OwnerKind},
};

/// The program that gives such names to the bridges that it makes.
pub fn by_name(name: &str) -> Option<OwnerKind> {
    let is_numbered = |prefix: &str| {
        let number = name.strip_prefix(prefix);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if is_docker_bridge(name) {
        Some(OwnerKind::Docker)
    } else if is_numbered("podman") || is_numbered("cni-podman") {
        Some(OwnerKind::Podman)
    } else if is_numbered("virbr") {
        Some(OwnerKind::Libvirt)
    } else {
        None
    }
}

/// The proof that nobody owns a bridge, or who does.
pub fn nobody(model: &Model<'_>, link: &Link) -> Result<Vec<Evidence>, Kept> {
    let surroundings = match &model.sample.surroundings {
        Fact::Known(surroundings) => surroundings,
        Fact::Absent(why) => return Err(stays(link, format!("whose it is was not asked: {why}"))),
    };
    let Some(maker) = by_name(&link.name) else {
        let why =
            "its name does not tell who made it: an administrator, or a program that caliprobe does not know";
        return Err(stays(link, why));
    };
    for owner in &surroundings.owners {
        if let Some(kept) = claims(owner, maker, link) {
            return Err(kept);
        }
    }
    if let Some(file) = surroundings.configured.get(&link.name) {
        return Err(stays(link, format!("{file} names it")));
    }
    let present = surroundings.owners.iter().find(|owner| owner.kind == maker);
    let text = match present {
        Some(_) => format!("{} has no network of {}", maker.name(), link.name),
        None => format!("{} names bridges so, and it does not run on this node", maker.name()),
    };
    Ok(vec![evidence(EvidenceSource::File, text)])
}

/// Why an owner keeps a bridge out of the plan.
fn claims(owner: &Owner, maker: OwnerKind, link: &Link) -> Option<Kept> {
    let name = owner.kind.name();
    match &owner.devices {
        Fact::Known(devices) => {
            let own = devices.iter().find(|own| own.device == link.name)?;
            let kept = stays(link, format!("it is {name}'s{}", called(own)));
            Some(Kept { command: Some(removal(owner.kind, own)), ..kept })
        }
        // These make bridges of any name.
        Fact::Absent(why)
            if owner.kind == maker
                || matches!(owner.kind, OwnerKind::NetworkManager | OwnerKind::Networkd) =>
        {
            Some(stays(link, format!("it may be {name}'s, which cannot be asked: {why}")))
        }
        Fact::Absent(_) => None,
    }
}

fn called(own: &OwnedDevice) -> String {
    if own.name == own.device { String::new() } else { format!(": {}", own.name) }
}

/// What the owner would type.
fn removal(owner: OwnerKind, own: &OwnedDevice) -> String {
    let quoted = |name: &str| shlex::try_quote(name).map_or_else(|_| "?".to_owned(), Into::into);
    let name: String = quoted(&own.name);
    match owner {
        OwnerKind::Docker => format!("docker network rm {name}"),
        OwnerKind::Podman => format!("podman network rm {name}"),
        OwnerKind::NetworkManager => format!("nmcli device delete {}", quoted(&own.device)),
        OwnerKind::Networkd => format!("networkctl delete {}", quoted(&own.device)),
        OwnerKind::Libvirt => format!("virsh net-destroy {name}"),
    }
}
