//! The kernel's functions by address, from `/proc/kallsyms`.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    ops::Range,
    path::Path,
};

use anyhow::{Context as _, ensure};

/// What compilers append to the name of a function that they split or cloned.
const SUFFIXES: [&str; 5] = [".isra.", ".constprop.", ".part.", ".cold", ".llvm."];
/// The longest function that an address is attributed to, in bytes.
const LONGEST: u64 = 64 << 10;

/// Functions, ordered by address.
pub struct Symbols {
    functions: Vec<(u64, Box<str>)>,
}

impl Symbols {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("proc/kallsyms");
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut functions = Vec::new();
        for line in BufReader::with_capacity(1 << 16, file).split(b'\n') {
            functions.extend(parse(&line.with_context(|| format!("cannot read {}", path.display()))?));
        }
        ensure!(!functions.is_empty(), "the kernel hides its symbols (CAP_SYSLOG, kernel.kptr_restrict)");
        functions.sort_unstable_by_key(|(address, _)| *address);
        Ok(Self { functions })
    }

    /// The function that an address lies in, without what the compiler appended to its name.
    pub fn name(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.functions.get(after.checked_sub(1)?)?;
        (address - start < LONGEST).then(|| without_suffix(name))
    }

    /// The addresses of a function's code; the next function begins where it ends.
    pub fn range(&self, function: &str) -> Option<Range<u64>> {
        let place = self.functions.iter().position(|(_, name)| without_suffix(name) == function)?;
        let start = self.functions[place].0;
        let end = self.functions.get(place + 1)?.0;
        Some(start..end.min(start + LONGEST))
    }
}

/// One line: address, type, name, and a module where it is of one. Hidden addresses are zero.
fn parse(line: &[u8]) -> Option<(u64, Box<str>)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok().filter(|address| *address != 0)?;
    matches!(words.next()?, "t" | "T" | "w" | "W").then_some(())?;
    Some((address, words.next()?.into()))
}

fn without_suffix(name: &str) -> &str {
    let end = SUFFIXES.iter().filter_map(|suffix| name.find(suffix)).min();
    &name[..end.unwrap_or(name.len())]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn symbols(text: &str) -> anyhow::Result<Symbols> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/kallsyms"), text).unwrap();
        Symbols::read(root.path())
    }

    #[test]
    fn an_address_is_named_by_the_function_that_it_lies_in() {
        let symbols = symbols(
            "ffffffff81000100 T ip_forward\nffffffff81000000 t ip_error.isra.0\nffffffff81000200 d data\n\
             ffffffffc0000000 t ipip_rcv\t[ipip]\ngarbage\n",
        )
        .unwrap();
        assert_eq!(symbols.name(0xffff_ffff_8100_0010), Some("ip_error"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0100), Some("ip_forward"));
        assert_eq!(symbols.name(0xffff_ffff_c000_0001), Some("ipip_rcv"));
        assert_eq!(symbols.name(0xffff_ffff_8000_0000), None);
        assert_eq!(symbols.range("ip_error"), Some(0xffff_ffff_8100_0000..0xffff_ffff_8100_0100));
        assert_eq!(symbols.name(0xffff_ffff_f000_0000), None);
    }

    #[test]
    fn hidden_addresses_are_an_error_that_says_so() {
        let error = symbols("0000000000000000 T ip_forward\n").err().unwrap();
        assert!(error.to_string().contains("CAP_SYSLOG"), "{error}");
    }
}
