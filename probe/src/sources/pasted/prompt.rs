//! Prompts with what was typed at them: they separate the outputs of a terminal session, name the machine, and say
//! which command it was and whether it shows all that there is.

use super::shape::Output;

/// A line that was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The machine, or the pod into which the command was sent.
    pub place: Option<String>,
    pub command: Command,
}

/// What a command prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Absent for commands whose output is not read.
    pub output: Option<Output>,
    /// It prints a selection: one device, or what a filter lets through.
    pub narrowed: bool,
    /// Its lines look like those of a table and are none: `ip route get`.
    pub misleading: bool,
    /// `cat /proc/sys/…`: the setting whose value is printed alone.
    pub setting: Option<String>,
}

/// Commands that show what is read here.
const TOOLS: [&str; 15] = [
    "ip",
    "route",
    "netstat",
    "ifconfig",
    "arp",
    "sysctl",
    "iptables-save",
    "iptables-legacy-save",
    "iptables-nft-save",
    "ipset",
    "calicoctl",
    "calicoctl-linux-amd64",
    "birdc",
    "birdcl",
    "cat",
];

/// Other commands that are typed in such sessions; after a bare `#` or `$` these alone tell a prompt from a comment.
const OTHERS: [&str; 45] = [
    "kubectl",
    "oc",
    "docker",
    "nerdctl",
    "crictl",
    "podman",
    "sudo",
    "ssh",
    "nsenter",
    "ping",
    "tcpdump",
    "hostname",
    "systemctl",
    "service",
    "journalctl",
    "traceroute",
    "tracepath",
    "mtr",
    "curl",
    "wget",
    "nc",
    "telnet",
    "iptables",
    "nft",
    "echo",
    "ls",
    "ll",
    "cd",
    "vi",
    "vim",
    "modprobe",
    "lsmod",
    "dmesg",
    "uname",
    "etcdctl",
    "brctl",
    "bridge",
    "ethtool",
    "conntrack",
    "nslookup",
    "dig",
    "ps",
    "grep",
    "watch",
    "show",
];

/// No prompt is longer.
const LONGEST_PROMPT: usize = 120;

/// Reads a line as a prompt with a command; `None` where it is something else.
pub fn read(line: &str) -> Option<Typed> {
    let end = line.floor_char_boundary(LONGEST_PROMPT);
    let mut signs = line.get(..end)?.match_indices(['#', '$', '%', '>']);
    signs.find_map(|(at, sign)| split(line, at, sign))
}

fn split(line: &str, at: usize, sign: &str) -> Option<Typed> {
    let before = line.get(..at)?.trim();
    let after = line.get(at + 1..)?;
    let is_apart = after.is_empty() || after.starts_with(' ');
    if !is_apart && (!before.is_empty() || sign == ">") {
        return None;
    }
    let typed = after.trim();
    let knows_command = || typed.split_whitespace().next().is_some_and(is_command);
    if sign == ">" {
        return (before == "bird").then(|| Typed { place: None, command: command(typed) });
    }
    let machine = machine(before)?;
    if machine.is_sure || knows_command() {
        let place = sent_to(typed).or(machine.name);
        return Some(Typed { place, command: command(typed) });
    }
    None
}

fn is_command(word: &str) -> bool {
    let name = base_name(word);
    TOOLS.contains(&name) || OTHERS.contains(&name)
}

fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

struct Machine {
    name: Option<String>,
    /// Nothing but a prompt looks like this.
    is_sure: bool,
}

/// What stands before the sign of a prompt: `[root@node1 ~]`, `user@node1:~`, `node1:~`, `/`, `bash-5.0`, or nothing.
fn machine(before: &str) -> Option<Machine> {
    let unbracketed = before.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = unbracketed.unwrap_or(before);
    if let Some((user, rest)) = inner.split_once('@') {
        let name: &str = rest.split([':', ' ', ']', ')']).next().unwrap_or_default();
        let is_name = |word: &str| !word.is_empty() && word.chars().all(is_name_character);
        let user = user.trim_start_matches(|c: char| !is_name_character(c));
        return (is_name(user) && is_name(name))
            .then(|| Machine { name: Some(name.to_owned()), is_sure: true });
    }
    let words = before.split_whitespace().count();
    let looks_alike = words <= 1 || (words == 2 && before.ends_with('~'));
    let name = before.split([':', ' ']).next().filter(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(is_name_character)
            && !name.starts_with("bash-")
            && !name.starts_with("sh-")
    });
    (looks_alike && before.chars().all(|c| is_name_character(c) || "/:~ ".contains(c)))
        .then(|| Machine { name: name.map(str::to_owned), is_sure: is_of_a_shell(before) })
}

/// What busybox, dash and bash print where nobody set a prompt.
fn is_of_a_shell(before: &str) -> bool {
    before == "/" || before == "~" || before.starts_with("sh-") || before.starts_with("bash-")
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.".contains(character)
}

/// The machine or pod that `ssh`, `kubectl exec` or `ip netns exec` hand a command on to.
fn sent_to(typed: &str) -> Option<String> {
    let words: Vec<&str> = typed.split_whitespace().collect();
    let place = |word: &str| words.iter().position(|other| base_name(other) == word);
    if let Some(at) = place("exec").filter(|at| *at > 0) {
        return match words.get(at - 1).map(|word| base_name(word)) {
            // The container of calico-node shares the node's network.
            Some("docker" | "nerdctl" | "podman") => None,
            _ => first_operand(words.get(at + 1..)?),
        };
    }
    if words.first() == Some(&"ssh") {
        let host = first_operand(words.get(1..)?)?;
        return Some(host.rsplit('@').next().unwrap_or(&host).to_owned());
    }
    None
}

/// The first word that is neither an option nor the value of one.
fn first_operand(words: &[&str]) -> Option<String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-n" | "--namespace" | "-c" | "--container" | "-i" | "-p" | "-l" => drop(words.next()),
            option if option.starts_with('-') => {}
            operand => return Some(operand.to_owned()),
        }
    }
    None
}

fn command(typed: &str) -> Command {
    let words: Vec<&str> = typed.split_whitespace().collect();
    let end = words.iter().position(|word| word.contains('|')).unwrap_or(words.len());
    let is_filtered = end < words.len();
    let start = words.iter().position(|word| *word == "exec").unwrap_or_default();
    let mut tools =
        (start..end).filter(|at| words.get(*at).is_some_and(|word| TOOLS.contains(&base_name(word))));
    let Some(at) = tools.next() else { return Command::default() };
    let arguments: Vec<&str> = words
        .get(at + 1..end)
        .unwrap_or_default()
        .iter()
        .map(|word| word.trim_matches(['\'', '"']))
        .collect();
    let mut command = match words.get(at).map(|word| base_name(word)) {
        Some("ip") => ip(&arguments),
        Some("route") => route(&arguments),
        Some("netstat") => Command { output: Some(Output::RouteColumns), ..Command::default() },
        Some("ifconfig") => Command {
            output: Some(Output::Ifconfig),
            narrowed: arguments.iter().any(|word| *word != "-a"),
            ..Command::default()
        },
        Some("arp") => Command { output: Some(Output::Neighbours), ..Command::default() },
        Some("sysctl") => Command { output: Some(Output::Sysctl), ..Command::default() },
        Some("cat") => {
            Command { setting: arguments.first().and_then(|path| setting(path)), ..Command::default() }
        }
        Some(name) if name.starts_with("iptables-") => {
            Command { output: Some(Output::IptablesSave), ..Command::default() }
        }
        Some("ipset") => Command { output: Some(Output::Ipset), ..Command::default() },
        _ => Command::default(),
    };
    command.narrowed |= is_filtered;
    command
}

fn ip(arguments: &[&str]) -> Command {
    let mut words = arguments.iter().copied().filter(|word| !word.starts_with('-'));
    if arguments.contains(&"-6") {
        return Command::default();
    }
    let object = words.next().unwrap_or_default();
    let rest: Vec<&str> =
        words.filter(|word| !matches!(*word, "show" | "list" | "ls" | "sh" | "lst" | "s")).collect();
    let output = if object.starts_with('r') && "route".starts_with(object) {
        Output::IpRoute
    } else if object.starts_with("ru") {
        Output::Rules
    } else if (object.starts_with('a') && "address".starts_with(object))
        || object == "addr"
        || (object.starts_with('l') && "link".starts_with(object))
    {
        Output::IpLink
    } else if object.starts_with('n') && "neighbour".starts_with(object) || object.starts_with("neigh") {
        Output::Neighbours
    } else {
        return Command::default();
    };
    match rest.first() {
        Some(&"get") => Command { misleading: true, ..Command::default() },
        Some(&("add" | "del" | "delete" | "replace" | "change" | "set" | "flush" | "append")) => {
            Command::default()
        }
        _ => {
            let is_whole_table =
                rest.first() == Some(&"table") && matches!(rest.get(1), Some(&("all" | "main")));
            Command {
                output: Some(output),
                narrowed: !rest.is_empty() && !is_whole_table,
                ..Command::default()
            }
        }
    }
}

fn route(arguments: &[&str]) -> Command {
    match arguments.first() {
        Some(&("add" | "del" | "flush")) => Command::default(),
        _ => Command { output: Some(Output::RouteColumns), ..Command::default() },
    }
}

/// `/proc/sys/net/ipv4/ip_forward` is `net.ipv4.ip_forward`.
fn setting(path: &str) -> Option<String> {
    Some(path.strip_prefix("/proc/sys/")?.replace('/', "."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(line: &str) -> (Option<String>, Option<Output>, bool) {
        let typed = read(line).unwrap_or_else(|| panic!("no prompt: {line}"));
        (typed.place, typed.command.output, typed.command.narrowed)
    }

    #[test]
    fn prompts_name_the_machine_and_the_output() {
        let on = |name: &str| Some(name.to_owned());
        for (line, expected) in [
            ("# route -n", (None, Some(Output::RouteColumns), false)),
            ("$ ip r", (None, Some(Output::IpRoute), false)),
            ("root@node1:~# ip route show table all", (on("node1"), Some(Output::IpRoute), false)),
            ("[root@k8s-master ~]# ip r | grep tunl0", (on("k8s-master"), Some(Output::IpRoute), true)),
            ("ubuntu@ip-10-0-0-5:~$ sudo ip -d -s link", (on("ip-10-0-0-5"), Some(Output::IpLink), false)),
            ("node2:~ # ip addr show tunl0", (on("node2"), Some(Output::IpLink), true)),
            ("/ # ip route", (None, Some(Output::IpRoute), false)),
            ("# ip rule", (None, Some(Output::Rules), false)),
            ("# ip n", (None, Some(Output::Neighbours), false)),
            ("# route del -net 172.18.0.0 netmask 255.255.0.0", (None, None, false)),
            (
                "$ kubectl -n kube-system exec calico-node-2wtkj -c calico-node -- ip route",
                (on("calico-node-2wtkj"), Some(Output::IpRoute), false),
            ),
            ("$ ssh root@node3 ifconfig -a", (on("node3"), Some(Output::Ifconfig), false)),
            ("# docker exec calico-node ip route", (None, Some(Output::IpRoute), false)),
            ("# ip netns exec pod1 ip route", (on("pod1"), Some(Output::IpRoute), false)),
            ("root@node1:~#", (on("node1"), None, false)),
            ("# calicoctl node status", (None, None, false)),
        ] {
            assert_eq!(typed(line), expected, "{line}");
        }
        assert!(read("# ip route get 10.0.0.1").unwrap().command.misleading);
        let cat = read("# cat /proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(cat.command.setting.as_deref(), Some("net.ipv4.ip_forward"));
    }

    #[test]
    fn lines_of_outputs_are_no_prompts() {
        for line in [
            "# Generated by iptables-save v1.6.0 on Wed Jun 27 16:12:13 2018",
            "2: eth0@if3: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500",
            "default via 10.0.0.1 dev eth0",
            "net.ipv4.ip_forward = 1",
            "-A INPUT -m comment --comment \"cost 10 $ here\" -j DROP",
            "",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in any::<String>(), like in "\\[?[a-z]{0,4}@?[a-z.]{0,4}[ :~]{0,3}\\]?[#$>%] ?(ip|route|ssh|kubectl exec|docker) [a-z |-]{0,20}") {
            let _ = read(&line);
            let _ = read(&like);
        }
    }
}
