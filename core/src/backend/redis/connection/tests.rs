use super::*;
use tokio::io::{AsyncReadExt, DuplexStream};

fn pair() -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(ours);
    let stream = Stream { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true };
    (Connection::start(stream, None), theirs)
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
    let first = connection.answer(first).await;
    assert_eq!(first.replies[0], Value::Int(1));
    assert!(matches!(&first.replies[1], Value::ServerError(error) if error_text(error) == "ERR no"));
    assert_eq!(connection.answer(second).await.replies, [Value::Int(3)]);
    assert_eq!(connection.answer(third).await.replies, [Value::BulkString(b"x".to_vec())]);
}

#[tokio::test]
async fn a_break_leaves_the_replies_that_came_before_it() {
    let (connection, mut server) = pair();
    let [scripts, wait] = connection.send([3, 1], SECOND, |_, out| out.extend(b"abcd")).unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    server.write_all(b":-5\r\n:17").await.unwrap();
    drop(server);
    let answer = connection.answer(scripts).await;
    assert_eq!(answer.replies, [Value::Int(-5)], "half a reply is none");
    assert!(answer.broken.unwrap().sent);
    assert!(connection.answer(wait).await.broken.unwrap().sent);
    assert!(!connection.is_open());
    assert!(!connection.send([1], SECOND, |_, _| ()).unwrap_err().sent);
}

#[tokio::test]
async fn what_the_stream_never_accepted_was_not_sent() {
    let (connection, server) = pair();
    drop(server);
    let [exchange] = connection.send([1], SECOND, |_, out| out.extend(b"abcd")).unwrap();
    assert!(!connection.answer(exchange).await.broken.unwrap().sent);
}

#[tokio::test]
async fn a_limit_that_passed_closes_the_connection() {
    let (connection, mut server) = pair();
    let limit = Duration::from_millis(5);
    let [exchange] = connection.send([1], limit, |_, out| out.extend(b"a")).unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    let answer = connection.answer(exchange).await;
    assert!(answer.broken.unwrap().why.contains("5 ms"));
    assert!(!connection.is_open());
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0, "the socket is closed at once");
}

#[tokio::test]
async fn an_idle_connection_notices_that_the_server_left() {
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
