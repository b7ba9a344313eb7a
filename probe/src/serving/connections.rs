//! Connections within bounds: so many at once, each for so long, with so much of a header.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Limits,
    answers::Site,
    api_socket::ApiSocket,
    security::{Client, Secured, Security},
};

/// The smallest buffer that hyper takes; a request line and its headers must fit.
const BUFFER: usize = 8 << 10;
const MOST_HEADERS: usize = 32;
/// How long no connection is accepted after accepting one failed: mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Debug)]
pub(super) enum Listener {
    /// Plain, or over TLS.
    Tcp(TcpListener, Option<Arc<Security>>),
    Unix(Arc<ApiSocket>),
}

/// A connection whose client has said nothing yet.
enum Accepted {
    Plain(Box<dyn Stream>),
    ToSecure(TcpStream, Arc<Security>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener, None) => Accepted::Plain(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener, Some(security)) => {
                Accepted::ToSecure(listener.accept().await?.0, security.clone())
            }
            Self::Unix(socket) => Accepted::Plain(Box::new(socket.accept().await?)),
        })
    }
}

/// Serves connections, `most` at a time; others wait in the kernel in the order in which they came.
pub(super) async fn accept(listener: Listener, most: usize, site: Arc<Site>, limits: Limits) {
    let room = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    // Nobody closes the semaphore.
    while let Ok(place) = room.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(accepted) => {
                let site = site.clone();
                connections.spawn(async move {
                    welcome(accepted, site, limits).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn welcome(accepted: Accepted, site: Arc<Site>, limits: Limits) {
    match accepted {
        Accepted::Plain(stream) => serve(stream, site, None, limits).await,
        Accepted::ToSecure(stream, security) => {
            // Whoever is refused has been told so.
            if let Some(Secured { stream, client }) = security.secure(stream, limits.request).await {
                serve(Box::new(stream), site, client, limits).await;
            }
        }
    }
}

async fn serve(stream: Box<dyn Stream>, site: Arc<Site>, client: Option<Client>, limits: Limits) {
    let service = service_fn(|request| {
        let (site, client) = (site.clone(), client.clone());
        async move { Ok::<_, Infallible>(site.answer(request, client).await) }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.request);
    protocol.max_headers(MOST_HEADERS).max_buf_size(BUFFER).keep_alive(false);
    // What goes wrong on a connection is the client's affair.
    let _ = timeout(limits.connection, protocol.serve_connection(TokioIo::new(stream), service)).await;
}
