//! Metrics over TLS.

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use caliprobe::{
    serving::{self, Serving, Settings},
    tls::Identity,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsConnector;

use crate::{
    certificates::{Authority, VALID},
    node::NODE,
};

fn serve(identity: &Identity) -> Result<Serving> {
    let (_publisher, receiver) = watch::channel(Arc::default());
    let metrics = Some((Ipv4Addr::LOCALHOST, 0).into());
    let settings = Settings { metrics, metrics_identity: Some(identity.clone()), ..Settings::default() };
    serving::start(&settings, receiver)
}

/// As a scraper that has no certificate. Returns the answer, and the server's certificate.
async fn scrape(serving: &Serving, ca: &Path) -> Result<(String, CertificateDer<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let stream = TcpStream::connect(serving.metrics_address().context("no metrics")?).await?;
    let mut stream = TlsConnector::from(config).connect(ServerName::try_from(NODE)?, stream).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").await?;
    let mut answer = Vec::new();
    // Whoever closes at once says no more goodbye.
    let _ = stream.read_to_end(&mut answer).await;
    let certificate = stream.get_ref().1.peer_certificates().context("no certificate")?[0].clone();
    Ok((String::from_utf8(answer)?, certificate.into_owned()))
}

#[tokio::test]
async fn metrics_are_served_over_tls_and_a_new_certificate_is_taken_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, path) = (folder.path().join("ca.pem"), folder.path().join("node"));
    let authority = Authority::new()?;
    authority.write(&ca)?;
    let identity = authority.certify(&path, &[NODE], VALID)?;
    let serving = serve(&identity)?;
    let (answer, first) = scrape(&serving, &ca).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("caliprobe_build_info"), "{answer}");

    authority.certify(&path, &[NODE], VALID)?;
    let (answer, second) = scrape(&serving, &ca).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_ne!(first, second);

    fs::write(&identity.key, "half a ke")?;
    let (answer, third) = scrape(&serving, &ca).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(second, third, "what was good stays");
    Ok(())
}

#[tokio::test]
async fn plain_http_is_told_to_use_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let identity = Authority::new()?.certify(&folder.path().join("node"), &[NODE], VALID)?;
    let serving = serve(&identity)?;
    let mut stream = TcpStream::connect(serving.metrics_address().context("no metrics")?).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name| folder.path().join(name);
    let authority = Authority::new()?;
    let (one, other) = (
        authority.certify(&path("one"), &[NODE], VALID)?,
        authority.certify(&path("other"), &[NODE], VALID)?,
    );
    fs::write(path("empty.pem"), "")?;
    fs::write(path("long.pem"), vec![b'x'; (1 << 20) + 1])?;
    for (certificate, key, why) in [
        (path("absent.pem"), one.key.clone(), "absent.pem: No such file"),
        (path("empty.pem"), one.key.clone(), "empty.pem holds no certificate in PEM"),
        (path("long.pem"), one.key.clone(), "longer than 1024 KiB"),
        (one.certificate.clone(), one.certificate.clone(), "one.pem holds no private key in PEM"),
        (one.certificate.clone(), other.key, "other.key is not that of the certificate in"),
    ] {
        let identity = Identity { certificate, key };
        let error = format!("{:#}", serve(&identity).map(|_| ()).expect_err(why));
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
    Ok(())
}
