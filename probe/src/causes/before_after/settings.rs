//! Settings of the kernel that changed, on devices that both looks have. What is wrong with one is a condition.

use super::{Change, Happened, Meaning};
use crate::{model::Model, report::document::SubjectKind, sample::Sysctls};

pub fn judge(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let (was, is) = (values(&before.sample.sysctls), values(&after.sample.sysctls));
    let changed = was.into_iter().filter_map(|(name, was)| {
        let (_, is) = is.iter().find(|(other, _)| *other == name)?;
        (was != *is).then(|| {
            let summary = format!("{name} is {is}, and was {was}");
            Change::new((Happened::Changed, Meaning::Harmless), (SubjectKind::Sysctl, name), summary)
        })
    });
    changed.collect()
}

/// Those that could be read, by their names.
fn values(sysctls: &Sysctls) -> Vec<(String, u8)> {
    let mut values = Vec::new();
    let mut enter = |name: String, value: Option<u8>| values.extend(value.map(|value| (name, value)));
    enter("net.ipv4.ip_forward".to_owned(), sysctls.ip_forward.map(u8::from));
    enter("net.ipv4.fib_multipath_hash_policy".to_owned(), sysctls.fib_multipath_hash_policy);
    for (interface, own) in &sysctls.interfaces {
        let name = |setting: &str| format!("net.ipv4.conf.{interface}.{setting}");
        enter(name("forwarding"), own.forwarding.map(u8::from));
        enter(name("rp_filter"), own.rp_filter);
        enter(name("proxy_arp"), own.proxy_arp.map(u8::from));
    }
    values
}
