//! Names of drop reasons, functions and netfilter hooks.

use std::{collections::HashMap, path::Path};

use super::symbols::Symbols;
use crate::sample::NetfilterHook;

/// Names of reasons and functions. Functions are read when the first drop needs them: most diagnoses have none.
pub struct Names {
    reasons: HashMap<u64, String>,
    symbols: Option<Result<Symbols, String>>,
}

impl Names {
    pub fn new(reasons: HashMap<u64, String>) -> Self {
        Self { reasons, symbols: None }
    }

    /// A drop reason; `None` where the kernel tells none.
    pub fn reason(&self, number: u32) -> Option<String> {
        if self.reasons.is_empty() {
            return None;
        }
        let name = self.reasons.get(&u64::from(number));
        Some(name.map_or_else(
            || format!("reason {number}"),
            |name| name.trim_start_matches("SKB_").trim_start_matches("DROP_REASON_").to_owned(),
        ))
    }

    /// The function that an address lies in.
    pub fn symbol(&mut self, address: u64) -> Option<String> {
        self.symbols().ok()?.name(address).map(str::to_owned)
    }

    /// Why functions have no names, once one was asked for.
    pub fn limit(&self) -> Option<&str> {
        self.symbols.as_ref()?.as_ref().err().map(String::as_str)
    }

    fn symbols(&mut self) -> Result<&Symbols, &String> {
        self.symbols
            .get_or_insert_with(|| Symbols::read(Path::new("/")).map_err(|error| format!("{error:#}")))
            .as_ref()
    }

    /// The hook, from the function that called `nf_hook_slow` (net/netfilter/core.c).
    pub fn hook(&self, symbol: Option<&str>, stack: &[u64]) -> Option<NetfilterHook> {
        let symbols = self.symbols.as_ref()?.as_ref().ok()?;
        let names: Vec<&str> = stack
            .iter()
            .take_while(|address| **address != 0)
            .filter_map(|address| symbols.name(*address))
            .collect();
        let caller = match names.iter().position(|name| name.starts_with("nf_hook_slow")) {
            Some(position) => &names[position + 1..],
            None if symbol.is_some_and(|symbol| symbol.starts_with("nf_hook_slow")) => &names[..],
            None => return None,
        };
        caller.iter().find_map(|name| hook_of(name))
    }
}

fn hook_of(function: &str) -> Option<NetfilterHook> {
    Some(match function {
        "ip_rcv" | "ip_sublist_rcv" | "ip_list_rcv" => NetfilterHook::Prerouting,
        "ip_local_deliver" => NetfilterHook::Input,
        "ip_forward" => NetfilterHook::Forward,
        "__ip_local_out" | "ip_local_out" | "raw_sendmsg" | "raw_send_hdrinc" => NetfilterHook::Output,
        "ip_output" | "ip_mc_output" => NetfilterHook::Postrouting,
        _ => return None,
    })
}
