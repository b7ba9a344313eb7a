//! `sysctl`: `net.ipv4.ip_forward = 1`; also as `grep . /proc/sys/…` prints settings.

/// The first parts of names.
const TREES: [&str; 4] = ["net", "kernel", "vm", "fs"];

pub fn begins(line: &str) -> bool {
    setting(line).is_some()
}

/// Reads names and values.
pub fn read(lines: &[String]) -> Vec<(String, String)> {
    lines.iter().filter_map(|line| setting(line)).collect()
}

fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (name, value) = match line.strip_prefix("/proc/sys/") {
        Some(path) => path.split_once(':').map(|(path, value)| (path.replace('/', "."), value))?,
        None => line.split_once('=').map(|(name, value)| (name.trim().to_owned(), value))?,
    };
    let (tree, rest) = name.split_once('.')?;
    let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
    (TREES.contains(&tree) && is_name(rest)).then(|| (name.clone(), value.trim().to_owned()))
}

/// The device and the setting of `net.ipv4.conf.DEVICE.SETTING`. A device's name may have dots itself, which `sysctl`
/// prints as slashes.
pub fn of_device(name: &str) -> Option<(String, &str)> {
    let (device, setting) = name.strip_prefix("net.ipv4.conf.")?.rsplit_once('.')?;
    Some((device.replace('/', "."), setting))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settings_are_read_in_every_shape() {
        let lines = [
            "net.ipv4.ip_forward = 0",
            "net.ipv4.conf.eth0/100.rp_filter=1",
            "/proc/sys/net/ipv4/conf/all/rp_filter:2",
        ];
        let read = read(&lines.map(str::to_owned));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read,
            [
                pair("net.ipv4.ip_forward", "0"),
                pair("net.ipv4.conf.eth0/100.rp_filter", "1"),
                pair("net.ipv4.conf.all.rp_filter", "2")
            ]
        );
        assert_eq!(of_device(&read[1].0), Some(("eth0.100".to_owned(), "rp_filter")));
        for line in ["a = b", "network = 10.0.0.0/8", "net = 1", "sysctl: cannot stat", "net.ipv4"] {
            assert!(!begins(line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in any::<String>(), like in "(net|/proc/sys/net)[./a-z]{0,20}[=:]{0,2}[0-9]{0,3}") {
            for (name, _) in read(&[line, like]) {
                of_device(&name);
            }
        }
    }
}
