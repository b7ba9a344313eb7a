//! Calico's other dataplanes, whose packets take another path than the one through `tunl0`.

use super::{
    Cause,
    case::{Case, Located, finding},
};
use crate::{
    report::document::{EvidenceSource, Severity, SubjectKind},
    sample::Link,
};

/// Devices of Calico's own other dataplanes.
const DEVICES: [(&str, &str); 4] = [
    ("vxlan.calico", "VXLAN"),
    ("wireguard.cali", "WireGuard"),
    ("bpfin.cali", "eBPF"),
    ("bpfout.cali", "eBPF"),
];

/// Whose device it is.
pub fn of_device(link: &Link) -> Option<&'static str> {
    DEVICES.iter().find(|(prefix, _)| link.name.starts_with(prefix)).map(|(_, whose)| *whose)
}

/// What was lost at such a device, said as what it is: no next hop and no neighbour there is as with IPIP.
pub fn at_its_device(case: &Case<'_>, located: &Located) -> Option<Located> {
    let name = located.place.device.as_deref()?;
    let device = case.before.links.iter().find(|link| link.name == name)?;
    let whose = of_device(device)?;
    let summary =
        format!("{} is behind {name}, Calico's {whose}; caliprobe knows the path through tunl0", case.target);
    let finding = finding(Cause::DataplaneUnsupported, SubjectKind::Interface, name, summary)
        .with_severity(Severity::Info)
        .with(EvidenceSource::Link, format!("{name} carries the packets of this pool"))
        .with_all(located.finding.evidence.clone())
        .confirm(
            &case.node,
            format!("ip -s link show {name}; ip neigh show dev {name}; bridge fdb show dev {name}"),
        );
    Some(Located { finding, place: located.place.clone() })
}
