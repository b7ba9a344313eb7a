//! Asks the kernel for its own look-up of each sender's packets (`RTM_GETROUTE`).

use std::io;

use crate::{
    diagnosis::Question,
    observation::KernelRoute,
    sources::netlink::{Netlink, RouteQuery},
};

/// One answer a sender, in their order.
pub async fn ask(question: &Question) -> anyhow::Result<Vec<KernelRoute>> {
    let netlink = Netlink::open()?;
    let mut answers = Vec::new();
    for (flow, chosen) in (0u8..).zip(&question.senders) {
        let link = chosen.sender.link();
        let query = RouteQuery {
            destination: question.target,
            // Without an input device a source must be local, and the host's own packets choose theirs.
            source: link.and_then(|_| chosen.sender.address()),
            input_link: link,
            mark: 0,
            tos: 0,
        };
        let answer = match netlink.route_get(query).await? {
            Ok(route) => {
                let hop = route.hops.first();
                Ok((hop.and_then(|hop| hop.link), hop.and_then(|hop| hop.gateway)))
            }
            Err(error) => Err(name_of(&error)),
        };
        answers.push(KernelRoute { flow, answer });
    }
    Ok(answers)
}

/// `EINVAL` and its like.
fn name_of(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| format!("{:?}", nix::errno::Errno::from_raw(number)))
}
