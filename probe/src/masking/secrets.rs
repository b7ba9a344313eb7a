//! Secrets are taken out of every text: passwords, tokens, keys and certificates, as programs write them into logs. What
//! only might be one goes too.

/// What stands in their place.
const REMOVED: &str = "[removed]";

/// A text without its secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct Scrubbed {
    pub text: String,
    /// How many places were taken out.
    pub removed: usize,
}

/// Parts of names whose values are secret, in lower case.
const SECRET: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "credential",
    "cookie",
    "keydata",
    "privatekey",
    "certificatedata",
    "authoritydata",
];
/// The same where `key` follows, with or without a separator.
const SECRET_KEYS: [&str; 12] = [
    "private",
    "secret",
    "access",
    "api",
    "client",
    "etcd",
    "tls",
    "ssl",
    "ssh",
    "encryption",
    "signing",
    "server",
];
/// Longer runs of letters of both cases and digits are no words.
const LONGEST_WORD: usize = 32;

/// Takes them out, line by line.
pub fn scrub(text: &str) -> Scrubbed {
    let (mut lines, mut removed, mut within_pem) = (Vec::new(), 0, false);
    for line in text.split('\n') {
        let (line, count) = match (within_pem, line.find("-----BEGIN "), line.rfind("-----END ")) {
            (false, None, None) => scrub_line(line),
            (within, begin, end) => {
                // A block, or a part of it: in one line its own ends are written as `\n`.
                let from = if within { 0 } else { begin.unwrap_or(0) };
                let to = end.and_then(|end| Some(end + 9 + line.get(end + 9..)?.find("-----")? + 5));
                let is_over = to.is_some() && line.rfind("-----BEGIN ").is_none_or(|begin| Some(begin) < to);
                within_pem = !is_over;
                let (head, count) = scrub_line(line.get(..from).unwrap_or_default());
                let (tail, more) =
                    scrub_line(to.filter(|_| is_over).and_then(|to| line.get(to..)).unwrap_or_default());
                (format!("{head}{REMOVED}{tail}"), 1 + count + more)
            }
        };
        lines.push(line);
        removed += count;
    }
    Scrubbed { text: lines.join("\n"), removed }
}

fn scrub_line(line: &str) -> (String, usize) {
    let mut removed = 0;
    let line = [without_headers, without_user_info, without_values, without_random_words]
        .into_iter()
        .fold(line.to_owned(), |line, step| step(&line, &mut removed));
    (line, removed)
}

/// Whatever follows an authorization header, and the word after a scheme.
fn without_headers(line: &str, removed: &mut usize) -> String {
    let lower = line.to_ascii_lowercase();
    for header in ["authorization", "x-auth", "www-authenticate"] {
        if let Some(at) = lower.find(header) {
            *removed += 1;
            let end = at + header.len();
            return format!("{}: {REMOVED}", line.get(..end).unwrap_or_default());
        }
    }
    let mut line = line.to_owned();
    for scheme in ["bearer ", "basic "] {
        let Some(at) = line.to_ascii_lowercase().find(scheme) else { continue };
        let (head, tail) = line.split_at(at + scheme.len());
        let end = tail.find([' ', '"', '\'', ',', ')', ']', '}']).unwrap_or(tail.len());
        // `basic` is a word, too.
        if end >= 8 {
            *removed += 1;
            line = format!("{head}{REMOVED}{}", tail.get(end..).unwrap_or_default());
        }
    }
    line
}

/// `scheme://USER:PASSWORD@host`.
fn without_user_info(line: &str, removed: &mut usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        // A password may hold what ends a host's name.
        let end = tail.find([' ', '"', '\'']).unwrap_or(tail.len());
        rest = tail;
        if let Some(host) = tail.get(..end).and_then(|authority| authority.rfind('@')) {
            *removed += 1;
            out.push_str(REMOVED);
            rest = tail.get(host..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// The values of names such as `password=`, `"client-key-data": "…"` and `--etcd-key …`.
fn without_values(line: &str, removed: &mut usize) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_of_name) {
        let (head, tail) = rest.split_at(start);
        let (name, after) = tail.split_at(tail.find(|c: char| !is_of_name(c)).unwrap_or(tail.len()));
        out.push_str(head);
        out.push_str(name);
        rest = after;
        if !is_secret(name) {
            continue;
        }
        let between = after
            .find(|c: char| !matches!(c, ' ' | '"' | '\'' | '\\' | '=' | ':' | '>'))
            .unwrap_or(after.len());
        let (separators, value) = after.split_at(between);
        let is_assigned =
            separators.contains(['=', ':']) || (name.starts_with('-') && !separators.is_empty());
        let is_quoted = separators.contains(['"', '\'']) && !separators.ends_with(['=', ':']);
        if value.is_empty() || !(is_assigned || is_quoted) {
            continue;
        }
        let quote = separators.chars().rev().find(|c| matches!(c, '"' | '\'')).filter(|_| is_quoted);
        let end = match quote {
            Some(quote) => value.find(quote).unwrap_or(value.len()),
            None => value.find([' ', ',', ';', '&', '}', ')', ']', '"']).unwrap_or(value.len()),
        };
        out.push_str(separators);
        if end > 0 {
            *removed += 1;
            out.push_str(REMOVED);
        }
        rest = value.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET.iter().any(|part| plain.contains(part))
        || SECRET_KEYS.iter().any(|kind| plain.contains(&format!("{kind}key")))
}

/// Tokens, hashes of passwords and lines of certificates: long, with digits and letters of both cases.
fn without_random_words(line: &str, removed: &mut usize) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_of_word) {
        let (head, tail) = rest.split_at(start);
        let (word, after) = tail.split_at(tail.find(|c: char| !is_of_word(c)).unwrap_or(tail.len()));
        out.push_str(head);
        if is_random(word) {
            *removed += 1;
            out.push_str(REMOVED);
        } else {
            out.push_str(word);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_random(word: &str) -> bool {
    let is_token = word.starts_with("eyJ") && word.len() > 16;
    let run = |part: &str| {
        let has = |is: fn(&char) -> bool| part.chars().any(|c| is(&c));
        part.len() >= LONGEST_WORD
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_digit)
    };
    is_token || word.split(['.', '_', '-', '/']).any(run) || (run(word) && !word.contains(['.', '/']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACES: [&str; 14] = [
        "password=SECRET",
        "{\"password\":\"SECRET\",\"user\":\"x\"}",
        "{\\\"token\\\":\\\"SECRET\\\"}",
        "Authorization: Bearer SECRET",
        "authorization=\"Basic SECRET\"",
        "dialing https://admin:SECRET@etcd:2379/v3",
        "client-key-data: SECRET",
        "ETCD_KEY=SECRET",
        "--etcd-key SECRET",
        "GITHUB_API_TOKEN='SECRET' started",
        "-----BEGIN RSA PRIVATE KEY-----\\nSECRET\\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nSECRET\n-----END CERTIFICATE-----",
        "auth with eyJhbGciOiJSUzI1NiIsImtpZCI6.SECRET.x failed",
        "bgp password \"SECRET\"",
    ];

    proptest! {
        #[test]
        fn a_planted_secret_is_gone(
            secret in "[A-Za-z0-9+/]{9,40}", place in 0..PLACES.len(),
            before in "[ -~]{0,40}", after in "[ -~]{0,40}",
        ) {
            // A line before or after it is another thought; a name may not begin within other words.
            let planted = PLACES[place].replace("SECRET", &secret);
            prop_assume!(!before.contains(&secret) && !after.contains(&secret));
            for text in [format!("{before}\n{planted}\n{after}"), format!("2026 [ERROR] {planted}"), format!("x {planted} y")] {
                let found = scrub(&text);
                prop_assert!(!found.text.contains(&secret), "{text} → {}", found.text);
                prop_assert!(found.removed > 0);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            scrub(&text);
            scrub(&format!("token={text} -----BEGIN {text}-----END {text}"));
        }
    }

    #[test]
    fn ordinary_lines_stay() {
        for line in [
            "bird: Mesh_172_30_10_187: Error: Hold timer expired",
            "[ERROR] felix/route_table.go 475: Failed to do it error=x",
            "bird: Netlink: Network is down",
            "/var/log/pods/kube-system_calico-node-2wtkj_1f0e6b5c-9f1e-4d5a-8b5f-1234567890ab/calico-node/3.log",
            "projectcalico.org/IPv4IPIPTunnelAddr",
            "4f7e1a5bd1f3c36b5ec2cb0c4a6e7d9f8b1a2c3d4e5f60718293a4b5c6d7e8f9",
            "cali:0123456789abcdef",
        ] {
            assert_eq!(scrub(line), Scrubbed { text: line.to_owned(), removed: 0 }, "{line}");
        }
    }
}
