//! Which causes a reset of calico-node mends. It makes felix, BIRD and confd read everything anew and write what
//! they own; it changes nothing that another program, another node or the underlay is at fault for.

use crate::{causes::Cause, report::document::Finding};

/// When a reset mends it; `None` where it does not, or where what explains it is nothing that a reset mends.
pub fn when(finding: &Finding) -> Option<&'static str> {
    let reasons = &finding.explained_by;
    if reasons.is_empty() {
        return of(finding.cause);
    }
    reasons.iter().find_map(when)
}

fn of(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::NodeNameChanged | Cause::NodeNameMismatch => Some("Calico takes its name for this node anew"),
        Cause::NodeAddressWrong => Some("calico-node looks for this node's address anew when it starts"),
        Cause::BirdNotRunning => Some("it starts BIRD again"),
        Cause::CalicoNotRunning => {
            Some("it starts calico-node, unless that ends again at once: its log says why")
        }
        Cause::FelixNotReady => Some("where felix hangs; not where it cannot reach its datastore"),
        Cause::RouteNotInstalled => Some("BIRD writes its routes anew, unless another one is in their place"),
        Cause::BgpSessionDown => Some(
            "where BIRD of this node is at fault; not where the other node is, or where port 179 is closed",
        ),
        Cause::BlockRouteMissing => {
            Some("where this node lost the route; not where the node of the block announces none")
        }
        Cause::TunnelDown | Cause::TunnelMissing | Cause::TunnelAddressMissing => {
            Some("felix puts tunl0 right when it starts; it would within 10 s if it ran well")
        }
        Cause::EndpointNotProgrammed => Some("felix writes the chains of all pods anew"),
        Cause::ProxyArpOff => Some("felix sets up the interfaces of all pods anew"),
        Cause::PodRouteMissing | Cause::StalePodRoute => Some("felix writes the routes of all pods anew"),
        _ => None,
    }
}
