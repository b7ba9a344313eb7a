//! What must not leave a node with a ticket: secrets, which are always taken out, and on demand addresses and names,
//! which are replaced so that what is judged of them stays the same. Pure.

mod addresses;
mod names;
mod rules;
mod secrets;
mod texts;

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::Context as _;
use serde_json::Value;
use sha1::{Digest as _, Sha1};

pub use secrets::{Scrubbed, scrub};

use crate::sample::{Fact, Sample};
use addresses::Addresses;
use names::Names;

/// Without it nobody finds the addresses and names again; the same key replaces alike.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Twenty bytes that only who has the key can compute.
    fn digest(&self, domain: &str, data: &[u8]) -> [u8; 20] {
        let mut inner = Sha1::new();
        for part in [self.0.as_slice(), domain.as_bytes(), &[0], data] {
            inner.update(part);
        }
        // Twice, so that no longer text can be made to fit.
        Sha1::digest([self.0.as_slice(), inner.finalize().as_slice()].concat()).into()
    }

    /// So many of its hexadecimal digits.
    fn hex(&self, domain: &str, data: &str, digits: usize) -> String {
        let all = self.digest(domain, data.as_bytes());
        all.iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .take(digits)
            .filter_map(|digit| char::from_digit(u32::from(digit), 16))
            .collect()
    }
}

/// Replaces addresses and names by others, each always by the same.
pub struct Mask {
    key: Key,
    addresses: Addresses,
    names: Names,
}

impl Mask {
    /// With the names that this sample holds.
    pub fn of(key: &Key, sample: &Sample) -> Self {
        Self { key: key.clone(), addresses: Addresses::new(key.clone()), names: Names::of(key, sample) }
    }

    pub fn address(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        self.addresses.address(address)
    }

    /// The sample with everything replaced.
    pub fn sample(&mut self, sample: &Sample) -> anyhow::Result<Sample> {
        let mut masked = sample.clone();
        if let Fact::Known(sets) = &mut masked.rule_sets {
            rules::mask(&mut self.addresses, sets);
        }
        if let Fact::Known(logs) = &mut masked.control_plane.logs {
            for entry in logs.iter_mut().flat_map(|log| &mut log.errors) {
                entry.text = self.strictly(&entry.text);
            }
        }
        let value = serde_json::to_value(&masked)?;
        serde_json::from_value(self.value(value)).context("the masked sample is none any more")
    }

    /// Lines of text with everything replaced.
    pub fn text(&mut self, text: &str) -> String {
        self.string("text", text)
    }

    /// A document with everything replaced in its texts.
    pub fn value(&mut self, value: Value) -> Value {
        self.within("", value)
    }

    fn within(&mut self, field: &str, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.string(field, &text)),
            Value::Array(values) => values.into_iter().map(|value| self.within(field, value)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    // A fact's value is that of the field that holds it.
                    let inner = if name == "known" { field } else { name.as_str() };
                    let value = self.within(inner, value);
                    (texts::pod_devices(&self.key, &name), value)
                });
                Value::Object(fields.collect())
            }
            other => other,
        }
    }

    fn string(&mut self, field: &str, text: &str) -> String {
        let text = self.names.in_field(field, text);
        let text = texts::pod_devices(&self.key, &text);
        let text = texts::policy_chains(&self.key, &text);
        let text = texts::hardware_addresses(&self.key, &text);
        texts::addresses(&text, &mut |found| self.addresses.shown(found))
    }

    /// Text that may hold names of anything: only what is plain words stays.
    fn strictly(&mut self, text: &str) -> String {
        let text = self.string("text", text);
        texts::plain_words(&self.key, &text)
    }
}

/// Scrubs secrets out of all texts of a document; comes to how many there were.
pub fn scrub_value(value: Value) -> (Value, usize) {
    match value {
        Value::String(text) => {
            let Scrubbed { text, removed } = scrub(&text);
            (Value::String(text), removed)
        }
        Value::Array(values) => {
            let mut sum = 0;
            let values = values.into_iter().map(|value| {
                let (value, removed) = scrub_value(value);
                sum += removed;
                value
            });
            let values = values.collect();
            (Value::Array(values), sum)
        }
        Value::Object(fields) => {
            let mut sum = 0;
            let fields: BTreeMap<String, Value> = fields
                .into_iter()
                .map(|(name, value)| {
                    let (value, removed) = scrub_value(value);
                    sum += removed;
                    (name, value)
                })
                .collect();
            (Value::Object(fields.into_iter().collect()), sum)
        }
        other => (other, 0),
    }
}
