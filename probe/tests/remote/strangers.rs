//! What listens where a node was expected: nothing, something silent, something that talks rubbish.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use caliprobe::tls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificates::VALID,
    node::{NODE, Node, ask, refusal},
};

/// The line of a node that watches.
const READY: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"ready\":true,\"schema_version\":1}\n";

/// Something with the node's certificate that answers every request with these bytes, and goes on with the last ones
/// for ever where that is wanted.
async fn impostor(node: &Node, answer: &'static str, endless: bool) -> Result<SocketAddr> {
    let identity = node.authority.certify(&node.folder.path().join("impostor"), &[NODE], VALID)?;
    let acceptor = TlsAcceptor::from(tls::server(&identity, Some(&node.ca))?);
    let listener = TcpListener::bind((NODE, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            while endless && stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            let _ = stream.shutdown().await;
        }
    });
    Ok(address)
}

#[tokio::test]
async fn rubbish_is_told() -> Result<()> {
    let node = Node::start()?;
    for (answer, why) in [
        ("SSH-2.0-OpenSSH\r\n", "it hung up"),
        ("", "it hung up"),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n<html",
            "answers 404 Not Found and is no caliprobe",
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello\n", "it said `hello` where"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "without a word"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"ready\":", "it hung up"),
    ] {
        let address = impostor(&node, answer, false).await?;
        let refused = refusal(ask(address, &node.ca, &node.caller).await);
        assert!(refused.contains(why), "{answer}: {refused}");
    }
    let address = impostor(&node, READY, false).await?;
    let cut = refusal(ask(address, &node.ca, &node.caller).await?.finish().await);
    assert!(cut.contains("it ended without an answer"), "{cut}");
    Ok(())
}

#[tokio::test]
async fn a_line_without_an_end_is_not_waited_for() -> Result<()> {
    let node = Node::start()?;
    let address = impostor(&node, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", true).await?;
    let refused = refusal(ask(address, &node.ca, &node.caller).await);
    assert!(refused.contains("where it was to say that it is ready") && refused.len() < 400, "{refused}");
    Ok(())
}

#[tokio::test]
async fn who_never_answers_is_not_waited_for_long() -> Result<()> {
    let node = Node::start()?;
    // It accepts connections and reads nothing.
    let silent = TcpListener::bind((NODE, 0)).await?;
    let no_handshake = refusal(ask(silent.local_addr()?, &node.ca, &node.caller).await);
    assert!(no_handshake.contains("no TLS handshake within 5 s"), "{no_handshake}");
    Ok(())
}

#[tokio::test]
async fn who_is_never_ready_is_not_waited_for_long() -> Result<()> {
    let node = Node::start()?;
    let identity = node.authority.certify(&node.folder.path().join("silent"), &[NODE], VALID)?;
    let acceptor = TlsAcceptor::from(tls::server(&identity, Some(&node.ca))?);
    let listener = TcpListener::bind((NODE, 0)).await?;
    let address = listener.local_addr()?;
    let kept = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let keeping = kept.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            keeping.lock().await.push(acceptor.accept(stream).await);
        }
    });
    let never = refusal(ask(address, &node.ca, &node.caller).await);
    assert!(never.contains("it was not ready after 20 s"), "{never}");
    assert_eq!(kept.lock().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn who_is_away_or_speaks_plain_http_is_told() -> Result<()> {
    let node = Node::start()?;
    let closed = {
        let listener = TcpListener::bind((NODE, 0)).await?;
        listener.local_addr()?
    };
    let away = refusal(ask(closed, &node.ca, &node.caller).await);
    assert!(away.contains("nothing listens there: does the daemon run with --remote-listen?"), "{away}");

    let plain = TcpListener::bind((NODE, 0)).await?;
    let address = plain.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let mut request = Vec::new();
            let _ = stream.read_to_end(&mut request).await;
        }
    });
    let refused = refusal(ask(address, &node.ca, &node.caller).await);
    assert!(refused.contains("it does not speak TLS there"), "{refused}");
    Ok(())
}
