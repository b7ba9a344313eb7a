//! Who is refused, and what is said then.

use anyhow::{Context as _, Result};
use caliprobe::tls;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    certificates::{Authority, EXPIRED, VALID},
    node::{NODE, Node, Observed, ask, refusal},
};

#[tokio::test]
async fn another_nodes_certificate_is_refused_before_anything_is_sent() -> Result<()> {
    let node = Node::named(&["paas-186", "172.30.10.186"])?;
    let refused = refusal(node.ask().await);
    let told = "its certificate is another node's: it is for paas-186, 172.30.10.186";
    assert!(refused.contains(told) && refused.contains("https://127.0.0.1:"), "{refused}");
    assert_eq!(node.traces(), 0);
    Ok(())
}

#[tokio::test]
async fn a_node_whose_certificate_has_expired_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let identity = authority.certify(&folder.path().join("node"), &[NODE], EXPIRED)?;
    let node = Node::of(folder, authority, identity, Observed::default())?;
    let refused = refusal(node.ask().await);
    assert!(refused.contains("its certificate has expired"), "{refused}");
    assert_eq!(node.traces(), 0);
    Ok(())
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused() -> Result<()> {
    let node = Node::start()?;
    let other = node.folder.path().join("other-ca.pem");
    Authority::new()?.write(&other)?;
    let refused = refusal(ask(node.address()?, &other, &node.caller).await);
    assert!(refused.contains("of no authority in the file of --peer-ca"), "{refused}");
    assert_eq!(node.traces(), 0);
    Ok(())
}

#[tokio::test]
async fn a_caller_with_a_wrong_certificate_is_refused_and_told_why() -> Result<()> {
    let node = Node::start()?;
    let path = |name| node.folder.path().join(name);
    let stranger = Authority::new()?.certify(&path("stranger"), &["paas-188"], VALID)?;
    let expired = node.authority.certify(&path("expired"), &["paas-188"], EXPIRED)?;
    for (caller, why) in [
        (stranger, "that is of no authority it knows"),
        (expired, "this side's certificate: that has expired"),
    ] {
        let refused = refusal(node.ask_as(&caller).await);
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(node.traces(), 0);
    Ok(())
}

#[tokio::test]
async fn plain_http_is_told_to_use_tls() -> Result<()> {
    let node = Node::start()?;
    let mut stream = TcpStream::connect(node.address()?).await?;
    stream.write_all(b"POST /v1/observe/x HTTP/1.1\r\nHost: node\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS"), "{answer}");
    assert_eq!(node.traces(), 0);
    Ok(())
}

/// A client that says nothing, or stops in the midst of the handshake or the request.
#[tokio::test]
async fn who_is_slow_is_hung_up_on() -> Result<()> {
    let node = Node::start()?;
    let mut silent = TcpStream::connect(node.address()?).await?;
    let mut slow = TcpStream::connect(node.address()?).await?;
    slow.write_all(b"\x16\x03\x01\x02\x00\x01").await?;
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        // An error is an end too.
        let _ = stream.read_to_end(&mut rest).await;
    }
    let half = say(&node, "POST /v1/observe/").await?;
    assert!(!half.contains("200 OK"), "{half}");
    node.ask().await?.finish().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_trace_is_refused_in_words() -> Result<()> {
    let node = Node::start()?;
    let flow = "00112233445566778899aabbccddeeff@10.0.0.1/icmp";
    for (request, status, why) in [
        ("GET /metrics".to_owned(), "404", "/v1/observe/FLOW"),
        (format!("GET /v1/observe/{flow}"), "405", "only POST"),
        ("POST /v1/observe/deadbeef@10.0.0.1/icmp".to_owned(), "400", "32 hexadecimal digits"),
        (format!("POST /v1/observe/{flow}?seconds=11"), "400", "a number from 1 to 10"),
        (format!("POST /v1/observe/{flow}?seconds=-1"), "400", "a number from 1 to 10"),
        (format!("POST /v1/observe/{flow}?packets=65"), "400", "no other setting"),
    ] {
        let answer = say(&node, &format!("{request} HTTP/1.1\r\nHost: node\r\n\r\n")).await?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("{\"message\":\"") && answer.contains(why), "{request}: {answer}");
    }
    assert_eq!(node.traces(), 0);
    Ok(())
}

/// A body is a sign that ends, not a place to put things.
#[tokio::test]
async fn a_long_body_ends_the_trace() -> Result<()> {
    let node = Node::start()?;
    let head = "POST /v1/observe/00112233445566778899aabbccddeeff@10.0.0.1/icmp HTTP/1.1\r\nHost: node\r\n\
                Content-Length: 1000000\r\n\r\n";
    let answer = say(&node, &format!("{head}{}", "x".repeat(1_000_000))).await?;
    assert!(!answer.contains("\"command\":\"observe\""), "{answer}");
    node.ask_once_it_is_free().await?.finish().await?;
    assert_eq!(*node.observed.ended.lock().unwrap(), [false, true]);
    Ok(())
}

/// What the node answers to these bytes of a caller whom it admits.
async fn say(node: &Node, request: &str) -> Result<String> {
    let config = tls::client(&node.caller, &node.ca)?;
    let stream = TcpStream::connect(node.address()?).await?;
    let name = ServerName::try_from(NODE).context("no name")?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    // Who is hung up on meanwhile is told so by an error.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
