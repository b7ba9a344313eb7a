//! An authority, and what it certifies.

use std::{fs, path::Path};

use anyhow::Result;
use caliprobe::tls::Identity;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

/// The years between which a certificate is valid.
pub type Years = (i32, i32);

pub const VALID: Years = (2020, 4000);
pub const EXPIRED: Years = (2001, 2002);

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, self.0.pem())?)
    }

    /// Certifies a new key for some names or addresses, and writes both beside each other.
    pub fn certify(&self, path: &Path, names: &[&str], (from, to): Years) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate()?;
        let identity = Identity { certificate: path.with_extension("pem"), key: path.with_extension("key") };
        fs::write(&identity.certificate, params.signed_by(&key, &self.0)?.pem())?;
        fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }
}
