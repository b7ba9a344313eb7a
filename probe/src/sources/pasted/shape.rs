//! Which output lines are, by their shape alone, and where one output ends and the next begins.

use super::{
    ifconfig, ip_link, ip_route, ip_rule, ipset, iptables_save, neighbours, node_status, prompt,
    prompt::Command, route_columns, routing_daemon, sysctl, text,
};

/// Outputs that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// `ip route`.
    IpRoute,
    /// `route -n`, `netstat -rn`.
    RouteColumns,
    /// `ip addr`, `ip link`, with `-d`, `-s`, `-br`, `-o`.
    IpLink,
    Ifconfig,
    /// `ip neigh`, `arp -n`, `arp -a`.
    Neighbours,
    /// `ip rule`.
    Rules,
    Sysctl,
    IptablesSave,
    /// `ipset list`, `ipset save`.
    Ipset,
    /// `calicoctl node status`.
    NodeStatus,
    /// `birdcl show protocols`.
    RoutingDaemon,
}

/// Every output, the ones with the most telling shapes first.
const OUTPUTS: [Output; 11] = [
    Output::NodeStatus,
    Output::RoutingDaemon,
    Output::Ipset,
    Output::IptablesSave,
    Output::Rules,
    Output::IpLink,
    Output::Ifconfig,
    Output::RouteColumns,
    Output::Neighbours,
    Output::IpRoute,
    Output::Sysctl,
];

impl Output {
    /// The command that prints it.
    pub fn command(self) -> &'static str {
        match self {
            Self::IpRoute => "ip route",
            Self::RouteColumns => "route -n",
            Self::IpLink => "ip addr",
            Self::Ifconfig => "ifconfig",
            Self::Neighbours => "ip neigh",
            Self::Rules => "ip rule",
            Self::Sysctl => "sysctl",
            Self::IptablesSave => "iptables-save",
            Self::Ipset => "ipset list",
            Self::NodeStatus => "calicoctl node status",
            Self::RoutingDaemon => "birdcl show protocols",
        }
    }

    /// Whether a line can only be of this output.
    fn begins(self, line: &str) -> bool {
        match self {
            Self::IpRoute => ip_route::begins(line),
            Self::RouteColumns => route_columns::begins(line),
            Self::IpLink => ip_link::begins(line),
            Self::Ifconfig => ifconfig::begins(line),
            Self::Neighbours => neighbours::begins(line),
            Self::Rules => ip_rule::begins(line),
            Self::Sysctl => sysctl::begins(line),
            Self::IptablesSave => iptables_save::begins(line),
            Self::Ipset => ipset::begins(line),
            Self::NodeStatus => node_status::begins(line),
            Self::RoutingDaemon => routing_daemon::begins(line),
        }
    }

    /// Whether a line that begins nothing may be of an output that has begun.
    fn goes_on(self, line: &str) -> bool {
        match self {
            Self::IpRoute => ip_route::goes_on(line),
            Self::RouteColumns => route_columns::goes_on(line),
            Self::IpLink => ip_link::goes_on(line),
            Self::Ifconfig => ifconfig::goes_on(line),
            Self::Ipset => ipset::goes_on(line),
            Self::IptablesSave => iptables_save::goes_on(line),
            Self::NodeStatus => node_status::goes_on(line),
            Self::RoutingDaemon => routing_daemon::goes_on(line),
            Self::Neighbours | Self::Rules | Self::Sysctl => false,
        }
    }

    /// Whether a line is the heading of a table, so that another table begins.
    fn is_heading(self, line: &str) -> bool {
        match self {
            Self::RouteColumns => route_columns::is_heading(line),
            Self::NodeStatus => node_status::is_heading(line),
            _ => false,
        }
    }
}

/// One output as it was pasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub output: Output,
    /// The machine that the prompt before it names.
    pub place: Option<String>,
    pub lines: Vec<String>,
    /// The command was seen, and it prints a selection.
    pub is_narrowed: bool,
}

/// Outputs that one text may hold; what follows is not read.
const MOST_SECTIONS: usize = 10_000;

/// Separates a text into the outputs in it; whatever else it holds is passed over.
pub fn sections(text: &str) -> Vec<Section> {
    let mut cutter = Cutter::default();
    for line in text::lines(text) {
        cutter.take(&line);
        if cutter.done.len() >= MOST_SECTIONS {
            break;
        }
    }
    cutter.finish()
}

#[derive(Default)]
struct Cutter {
    done: Vec<Section>,
    open: Option<Section>,
    place: Option<String>,
    command: Option<Command>,
}

impl Cutter {
    fn take(&mut self, line: &str) {
        if let Some(typed) = prompt::read(line) {
            self.close();
            self.place = typed.place.or(self.place.take());
            self.open = typed.command.output.map(|output| self.section(output, &typed.command));
            self.command = Some(typed.command);
            return;
        }
        if self.command.as_ref().is_some_and(|command| command.misleading) {
            return;
        }
        if let Some(setting) = self.setting(line) {
            self.begin(Output::Sysctl, setting);
            return;
        }
        let expected = self.open.as_ref().map(|section| section.output);
        let begun = expected
            .filter(|output| output.begins(line))
            .or_else(|| OUTPUTS.into_iter().find(|output| output.begins(line)));
        match (begun, &mut self.open) {
            (Some(output), Some(open))
                if output == open.output
                    && !(output.is_heading(line)
                        && open.lines.iter().any(|line| !output.is_heading(line))) =>
            {
                open.lines.push(line.to_owned());
            }
            (Some(output), _) => self.begin(output, line.to_owned()),
            (None, Some(open)) if open.output.goes_on(line) => open.lines.push(line.to_owned()),
            (None, Some(open)) if open.lines.is_empty() && line.trim().is_empty() => {}
            // What a command said that is no output of it: it printed something, so nothing is not what it printed.
            (None, Some(open)) if open.lines.is_empty() => self.open = None,
            (None, _) => self.close(),
        }
    }

    /// The one line that `cat /proc/sys/…` prints, as sysctl would.
    fn setting(&mut self, line: &str) -> Option<String> {
        let value = line.trim();
        let is_value = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'\t');
        let setting = self.command.as_mut().filter(|_| is_value)?.setting.take()?;
        Some(format!("{setting} = {value}"))
    }

    fn section(&self, output: Output, command: &Command) -> Section {
        Section { output, place: self.place.clone(), lines: Vec::new(), is_narrowed: command.narrowed }
    }

    fn begin(&mut self, output: Output, line: String) {
        self.close();
        let known = self.command.as_ref().filter(|command| command.output == Some(output));
        let command = known.cloned().unwrap_or_default();
        let mut section = self.section(output, &command);
        section.lines.push(line);
        self.open = Some(section);
    }

    fn close(&mut self) {
        // A command for routes that printed nothing says that there are none; for the others it may have failed.
        let says = |section: &Section| !section.lines.is_empty() || section.output == Output::IpRoute;
        self.done.extend(self.open.take().filter(says));
    }

    fn finish(mut self) -> Vec<Section> {
        // Nothing follows a last command: its output was not copied.
        if self.open.as_ref().is_some_and(|section| section.lines.is_empty()) {
            self.open = None;
        }
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outputs(text: &str) -> Vec<(Output, Option<String>, usize)> {
        sections(text)
            .into_iter()
            .map(|section| (section.output, section.place, section.lines.len()))
            .collect()
    }

    #[test]
    fn outputs_one_after_another_are_told_apart() {
        let text = "\
Here is what I see:

root@node1:~# ip r
default via 10.0.0.1 dev eth0
10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.5
root@node1:~# ip n
10.0.0.1 dev eth0 lladdr 02:00:00:00:00:01 REACHABLE
root@node1:~# ip route get 10.0.0.9
10.0.0.9 dev eth0 src 10.0.0.5
root@node2:~# sysctl net.ipv4.ip_forward
net.ipv4.ip_forward = 1
root@node2:~# cat /proc/sys/net/ipv4/conf/all/rp_filter
1
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.0.0.1        0.0.0.0         UG    0      0        0 eth0

thanks
";
        let on = |name: &str| Some(name.to_owned());
        let expected = [
            (Output::IpRoute, on("node1"), 2),
            (Output::Neighbours, on("node1"), 1),
            (Output::Sysctl, on("node2"), 1),
            (Output::Sysctl, on("node2"), 1),
            (Output::RouteColumns, on("node2"), 3),
        ];
        assert_eq!(outputs(text), expected);
    }

    #[test]
    fn a_command_that_printed_no_route_is_kept() {
        assert_eq!(outputs("/ # ip route\n/ # ip a\n"), [(Output::IpRoute, None, 0)]);
        assert_eq!(outputs("/ # ip route"), []);
        assert_eq!(outputs("/ # ip route\nsh: ip: not found\n/ # ip a\n"), []);
        assert_eq!(
            outputs("$ kubectl exec a -- ip r\nDefaulted container \"b\"\n10.0.0.0/24 dev eth0\n").len(),
            1
        );
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_a_panic(text in "(.{0,60}\n){0,12}") {
            for section in sections(&text) {
                prop_assert!(section.lines.len() <= 12);
            }
        }
    }
}
