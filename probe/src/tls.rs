//! TLS 1.3 for what leaves this machine: certificates from PEM files, both ends of a mutual handshake, and what went
//! wrong with one in a person's words.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
    version::TLS13,
};

/// The longest file of certificates; a bundle of every public authority has a quarter of it.
const LONGEST_FILE: u64 = 1 << 20;

/// The files with which one end says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM: its own certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM: the key of the first of them.
    pub key: PathBuf,
}

/// What a server needs. With `clients`, a file of authorities, only who has a certificate of one of them is served.
pub fn server(identity: &Identity, clients: Option<&Path>) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let builder = match clients {
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.with_context(|| unusable(path))?)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = read(identity)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| mismatch(identity, &error))?;
    // A session that is taken up again would outlive the files that it began with.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a client needs that shows a certificate of its own, and takes servers of these authorities alone.
pub fn client(identity: &Identity, servers: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let builder = builder.with_root_certificates(authorities(servers)?);
    let (chain, key) = read(identity)?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|error| mismatch(identity, &error))?;
    Ok(Arc::new(config))
}

fn read(identity: &Identity) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&identity.certificate)?;
    let path = &identity.key;
    let key = PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => anyhow::anyhow!("{} holds no private key in PEM", path.display()),
        _ => anyhow::anyhow!("{}: {error}", unusable(path)),
    })?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(path)?).collect();
    let found = found.map_err(|error| anyhow::anyhow!("{}: {error}", unusable(path)))?;
    ensure!(!found.is_empty(), "{} holds no certificate in PEM", path.display());
    Ok(found)
}

fn authorities(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).with_context(|| unusable(path))?;
    }
    Ok(store)
}

fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    use io::Read as _;
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut contents = Vec::new();
    let read = file.take(LONGEST_FILE + 1).read_to_end(&mut contents);
    let length = read.with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(length).is_ok_and(|length| length > LONGEST_FILE) {
        bail!("{} is longer than {} KiB, which no certificates are", path.display(), LONGEST_FILE >> 10);
    }
    Ok(contents)
}

fn unusable(path: &Path) -> String {
    format!("{} cannot be used", path.display())
}

fn mismatch(Identity { certificate, key }: &Identity, error: &Error) -> anyhow::Error {
    match error {
        Error::InconsistentKeys(_) => {
            anyhow::anyhow!(
                "the key in {} is not that of the certificate in {}",
                key.display(),
                certificate.display()
            )
        }
        _ => anyhow::anyhow!("{} and {} cannot be used: {error}", certificate.display(), key.display()),
    }
}

/// The error of TLS behind one of reading or writing, wherever it is in the chain.
pub fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let here = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if here.is_some() {
            return here;
        }
        next = error.source();
    }
    None
}

/// Whether the other side does not speak TLS at all.
pub fn is_plain(error: &Error) -> bool {
    matches!(error, Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

/// What went wrong, as the client says it of a server.
pub struct Refusal<'a>(pub &'a Error);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CertificateError as Bad;
        match self.0 {
            error if is_plain(error) => text.write_str("it does not speak TLS there"),
            Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer | Bad::BadSignature => {
                    text.write_str("its certificate is of no authority in the file of --peer-ca")
                }
                Bad::NotValidForName => text.write_str("its certificate is another node's"),
                Bad::NotValidForNameContext { presented, .. } => {
                    let names = presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ");
                    write!(text, "its certificate is another node's: it is for {names}")
                }
                Bad::Expired | Bad::ExpiredContext { .. } => text.write_str("its certificate has expired"),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    text.write_str("its certificate is not valid yet: is a clock wrong?")
                }
                other => write!(text, "its certificate is refused: {other}"),
            },
            Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateExpired => {
                    text.write_str("it refuses this side's certificate: that has expired")
                }
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    text.write_str("it refuses this side's certificate: that is of no authority it knows")
                }
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::AccessDenied => {
                    write!(text, "it refuses this side's certificate ({alert:?})")
                }
                other => write!(text, "it ended the handshake ({other:?})"),
            },
            other => write!(text, "no TLS came about: {other}"),
        }
    }
}

/// `DnsName("paas-186")` is paas-186.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}
