//! TLS of a listener, and who is behind a connection.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::tls::{self, Identity};

/// How long, and how much, is read of a client that was refused: the kernel throws away what it was told if that stays
/// unread.
const LINGERING: Duration = Duration::from_secs(1);
const LINGERING_BYTES: u64 = 64 << 10;

/// What TLS begins with: the type of a record (RFC 8446, `ContentType`).
const HANDSHAKE: u8 = 22;
/// What somebody is told who speaks plain HTTP here.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
                     this port speaks TLS: ask it by https://\n";

/// The files of one listener, and what they were when they were last good.
#[derive(Debug)]
pub(super) struct Security {
    identity: Identity,
    /// Authorities of clients; anybody is served without.
    clients: Option<PathBuf>,
    good: Mutex<Arc<ServerConfig>>,
}

/// A connection of whom the handshake admitted.
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) client: Option<Client>,
}

/// Who asks: the owner of a certificate, at an address.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) address: IpAddr,
}

impl Security {
    /// Fails where the files cannot be used.
    pub(super) fn new(identity: Identity, clients: Option<PathBuf>) -> anyhow::Result<Arc<Self>> {
        let good = Mutex::new(tls::server(&identity, clients.as_deref())?);
        Ok(Arc::new(Self { identity, clients, good }))
    }

    /// Reads the files anew, for certificates are short-lived; what was good stays until they are whole again.
    fn config(&self) -> Arc<ServerConfig> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        match tls::server(&self.identity, self.clients.as_deref()) {
            Ok(config) => *good = config,
            Err(error) => tracing::warn!("the certificate from before is used: {error:#}"),
        }
        good.clone()
    }

    /// Does the handshake within a time. Who is refused is told why, as far as TLS has words for it.
    pub(super) async fn secure(&self, stream: TcpStream, within: Duration) -> Option<Secured> {
        let address = stream.peer_addr().map(|address| SocketAddr::ip(&address)).ok()?;
        let mut first = [0];
        timeout(within, stream.peek(&mut first)).await.ok()?.ok()?;
        if first != [HANDSHAKE] {
            let _ = timeout(LINGERING, part(stream, PLAIN)).await;
            return None;
        }
        let handshake = TlsAcceptor::from(self.config()).accept(stream).into_fallible();
        let (error, stream) = match timeout(within, handshake).await.ok()? {
            Ok(stream) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
                let client =
                    certificate.map(|certificate| Client { certificate: certificate.into_owned(), address });
                return Some(Secured { stream, client });
            }
            Err(refused) => refused,
        };
        tracing::info!("{address} was refused: {error}");
        let _ = timeout(LINGERING, part(stream, "")).await;
        None
    }
}

/// Hangs up with some last words.
async fn part(mut stream: TcpStream, words: &str) {
    let _ = stream.write_all(words.as_bytes()).await;
    let _ = stream.shutdown().await;
    let _ = copy(&mut stream.take(LINGERING_BYTES), &mut sink()).await;
}
