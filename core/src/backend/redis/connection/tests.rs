//! What an exchange gets when its connection works, breaks or is too slow.

use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Connection, Transport};
use crate::backend::redis::protocol::values::error_text;

fn pair() -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(ours);
    let transport = Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true };
    (Connection::start(transport, None), theirs)
}

const SECOND: Duration = Duration::from_secs(5);

#[tokio::test]
async fn each_exchange_gets_its_own_replies() {
    let (connection, mut server) = pair();
    let [first, second] = connection.send([2, 1], SECOND, |_, out| out.extend(b"abc")).unwrap();
    let [third] = connection.send([1], SECOND, |_, out| out.extend(b"d")).unwrap();
    let mut got = [0; 4];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"abcd");
    server.write_all(b":1\r\n-ERR no\r\n:3\r\n$1\r\nx\r\n").await.unwrap();
    let first = connection.receive(first).await;
    assert_eq!(first.replies[0], Value::Int(1));
    assert!(matches!(&first.replies[1], Value::ServerError(error) if error_text(error) == "ERR no"));
    assert_eq!(connection.receive(second).await.replies, [Value::Int(3)]);
    assert_eq!(connection.receive(third).await.replies, [Value::BulkString(b"x".to_vec())]);
}

#[tokio::test]
async fn an_exchange_keeps_the_replies_that_came_before_a_break() {
    let (connection, mut server) = pair();
    let [scripts, wait] = connection.send([3, 1], SECOND, |_, out| out.extend(b"abcd")).unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    server.write_all(b":-5\r\n:17").await.unwrap();
    drop(server);
    let response = connection.receive(scripts).await;
    assert_eq!(response.replies, [Value::Int(-5)], "half a reply does not count");
    assert!(response.broken.unwrap().sent);
    assert!(connection.receive(wait).await.broken.unwrap().sent);
    assert!(!connection.is_open());
    assert!(!connection.send([1], SECOND, |_, _| ()).unwrap_err().sent);
}

#[tokio::test]
async fn bytes_the_stream_never_accepted_were_not_sent() {
    let (connection, server) = pair();
    drop(server);
    let [exchange] = connection.send([1], SECOND, |_, out| out.extend(b"abcd")).unwrap();
    assert!(!connection.receive(exchange).await.broken.unwrap().sent);
}

#[tokio::test]
async fn an_elapsed_limit_closes_the_connection() {
    let (connection, mut server) = pair();
    let limit = Duration::from_millis(5);
    let [exchange] = connection.send([1], limit, |_, out| out.extend(b"a")).unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    let response = connection.receive(exchange).await;
    assert!(response.broken.unwrap().why.contains("5 ms"));
    assert!(!connection.is_open());
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0, "the socket is closed immediately");
}

#[tokio::test]
async fn an_idle_connection_notices_that_the_server_went_away() {
    let (connection, server) = pair();
    assert!(connection.is_open());
    drop(server);
    tokio::time::timeout(SECOND, async {
        while connection.is_open() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
