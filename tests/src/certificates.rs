//! What a cluster's operator makes for the remote trace API: an authority, and a certificate for each node.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::cluster::topology::NODES;

/// Writes `ca.pem`, and for each node `NAME.pem` and `NAME.key`.
pub fn write(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    for node in &NODES {
        let names = [node.name.to_owned(), node.address.to_string()];
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
        fs::write(folder.join(node.name).with_extension("pem"), certificate.pem())?;
        fs::write(folder.join(node.name).with_extension("key"), key.serialize_pem())?;
    }
    Ok(())
}
