//! Connections within bounds: so many at once, each for so long, with so much of a header.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Limits, answers::Site, api_socket::ApiSocket};

/// The smallest buffer that hyper takes; a request line and its headers must fit.
const BUFFER: usize = 8 << 10;
const MOST_HEADERS: usize = 32;
/// How long no connection is accepted after accepting one failed: mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(Arc<ApiSocket>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Unix(socket) => Ok(Box::new(socket.accept().await?)),
        }
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
            Ok(stream) => {
                let site = site.clone();
                connections.spawn(async move {
                    serve(stream, site, limits).await;
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

async fn serve(stream: Box<dyn Stream>, site: Arc<Site>, limits: Limits) {
    let service = service_fn(|request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.request);
    protocol.max_headers(MOST_HEADERS).max_buf_size(BUFFER).keep_alive(false);
    // What goes wrong on a connection is the client's affair.
    let _ = timeout(limits.connection, protocol.serve_connection(TokioIo::new(stream), service)).await;
}
