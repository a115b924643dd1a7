//! What an exchange gets when its connection works, breaks or is too slow.

use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Connection, Response, Transport};
use crate::backend::redis::protocol::decoder::Decoder;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::expected::ExpectedReply::{Echo, Integer, Script, Text};
use crate::backend::redis::protocol::replies::expected::{ExpectedReply, ScriptReply};
use crate::backend::redis::protocol::values::error_text;

pub(super) fn pair() -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(ours);
    let transport = Transport { reader: Box::new(reader), writer: Box::new(writer), accepts_exactly: true };
    (Connection::start(transport, None, Decoder::default()), theirs)
}

const SECOND: Duration = Duration::from_secs(5);

/// Packs these bytes as commands with these replies.
fn pack(bytes: &[u8], expected: &[ExpectedReply]) -> impl FnOnce(&mut Packer, &mut Vec<u8>) {
    move |packer, out| {
        out.extend(bytes);
        for &expected in expected {
            packer.expect(expected);
        }
    }
}

/// What an exchange gets that expects these replies, for these bytes of the server.
async fn exchanged(expected: &[ExpectedReply], bytes: &str) -> Response {
    let (connection, mut server) = pair();
    let [exchange] = connection.send([expected.len()], SECOND, pack(b"a", expected)).unwrap();
    server.write_all(bytes.as_bytes()).await.unwrap();
    let response = connection.receive(exchange).await;
    assert_eq!(response.broken.is_none(), connection.is_open(), "{bytes:?}");
    response
}

#[tokio::test]
async fn each_exchange_gets_its_own_replies() {
    let (connection, mut server) = pair();
    let [first, second] = connection.send([2, 1], SECOND, pack(b"abc", &[Integer; 3])).unwrap();
    let [third] = connection.send([1], SECOND, pack(b"d", &[Text])).unwrap();
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
    let [scripts, wait] = connection.send([3, 1], SECOND, pack(b"abcd", &[Integer; 4])).unwrap();
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
    let [exchange] = connection.send([1], SECOND, pack(b"abcd", &[Text])).unwrap();
    assert!(!connection.receive(exchange).await.broken.unwrap().sent);
}

#[tokio::test]
async fn an_elapsed_limit_closes_the_connection() {
    let (connection, mut server) = pair();
    let limit = Duration::from_millis(5);
    let [exchange] = connection.send([1], limit, pack(b"a", &[Text])).unwrap();
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

#[tokio::test]
async fn a_reply_that_cannot_be_the_answer_closes_the_connection() {
    let numbers = |count| Script { echo: 17, shape: ScriptReply::Numbers(count) };
    let (number, record) =
        (Script { echo: 17, shape: ScriptReply::Number }, Script { echo: 17, shape: ScriptReply::Record });
    for (expected, bytes) in [
        (Integer, "+OK\r\n"),
        (Integer, "$1\r\n2\r\n"),
        (Integer, "*1\r\n:2\r\n"),
        (Text, ":1\r\n"),
        (Echo(17), "$2\r\n18\r\n"),
        (Echo(17), "+PONG\r\n"),
        (numbers(1), ":1\r\n"),
        (numbers(1), "+OK\r\n"),
        (numbers(1), "$-1\r\n"),
        (numbers(1), "*0\r\n"),
        (numbers(1), "*1\r\n:17\r\n"),
        (numbers(1), "*1\r\n:1\r\n"),
        (numbers(1), "*2\r\n:1\r\n:18\r\n"),
        (numbers(1), "*2\r\n:1\r\n$2\r\n17\r\n"),
        (numbers(1), "*3\r\n:1\r\n:1\r\n:17\r\n"),
        (numbers(1), "*2\r\n$1\r\n1\r\n:17\r\n"),
        (number, "*1\r\n:17\r\n"),
        (number, "*3\r\n:1\r\n:1\r\n:17\r\n"),
        (number, "*2\r\n$-1\r\n:17\r\n"),
        (record, "*2\r\n:1\r\n:17\r\n"),
        (record, "$-1\r\n"),
    ] {
        let response = exchanged(&[expected], bytes).await;
        assert_eq!(response.replies, [], "{expected:?} {bytes:?}");
        assert!(response.broken.unwrap().why.contains("not the answer"), "{expected:?} {bytes:?}");
    }
    for (expected, bytes, reply) in [
        (numbers(2), "*3\r\n:1\r\n:2\r\n:17\r\n", Value::Array(vec![Value::Int(1), Value::Int(2)])),
        (number, "*2\r\n:5\r\n:17\r\n", Value::Int(5)),
        (record, "*2\r\n$-1\r\n:17\r\n", Value::Nil),
        (record, "*2\r\n*1\r\n:1\r\n:17\r\n", Value::Array(vec![Value::Int(1)])),
        (Echo(17), "$2\r\n17\r\n", Value::BulkString(b"17".to_vec())),
        (Text, "+OK\r\n", Value::Okay),
    ] {
        assert_eq!(exchanged(&[expected], bytes).await.replies, [reply], "{expected:?} {bytes:?}");
    }
    for expected in [Integer, Text, Echo(17)] {
        let response = exchanged(&[expected], "-ERR no\r\n").await;
        assert!(matches!(response.replies[..], [Value::ServerError(_)]), "an error can answer anything");
    }
}

#[tokio::test]
async fn a_reply_too_many_breaks_all_exchanges_behind_it() {
    let (connection, mut server) = pair();
    let script = |echo| Script { echo, shape: ScriptReply::Numbers(1) };
    let [first] = connection.send([1], SECOND, pack(b"a", &[script(1)])).unwrap();
    let [second, wait] =
        connection.send([1, 2], SECOND, pack(b"bcd", &[script(2), Integer, Echo(3)])).unwrap();
    server.write_all(b"*2\r\n:7\r\n:1\r\n*2\r\n:7\r\n:1\r\n*2\r\n:7\r\n:2\r\n").await.unwrap();
    assert_eq!(connection.receive(first).await.replies, [Value::Array(vec![Value::Int(7)])]);
    assert_eq!(connection.receive(second).await.replies, []);
    assert_eq!(connection.receive(wait).await.replies, []);
    assert!(!connection.is_open());
    // Of the same kind as the reply to WAIT: the reply behind it tells.
    let late = exchanged(&[script(2), Integer, Echo(3)], "*2\r\n:7\r\n:2\r\n:2\r\n:1\r\n$1\r\n3\r\n").await;
    assert!(late.broken.is_some() && late.replies.len() == 2);
}

/// Reads the echo that proves an error, and returns its number.
async fn asked_for_echo(server: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 256];
    let read = tokio::time::timeout(SECOND, server.read(&mut bytes));
    let count = read.await.expect("an echo is asked for").unwrap();
    let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
    text.split("\r\n").filter(|word| !word.is_empty()).last().unwrap().to_owned()
}

#[tokio::test]
async fn an_error_is_the_answer_to_a_script_once_an_echo_comes_after_it() {
    let expected = Script { echo: 7, shape: ScriptReply::Number };
    let (connection, mut server) = pair();
    let [mut exchange] = connection.send([1], SECOND, pack(b"a", &[expected])).unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    server.write_all(b"-OOM no\r\n").await.unwrap();
    let echo = asked_for_echo(&mut server).await;
    assert!(exchange.try_recv().is_err(), "not before it is proved");
    server.write_all(format!("${}\r\n{echo}\r\n", echo.len()).as_bytes()).await.unwrap();
    let response = connection.receive(exchange).await;
    assert!(matches!(&response.replies[..], [Value::ServerError(error)] if error.code() == "OOM"));
    assert!(response.broken.is_none() && connection.is_open());
}

#[tokio::test]
async fn an_error_before_the_reply_of_a_script_is_no_answer() {
    let expected = [1, 2].map(|echo| Script { echo, shape: ScriptReply::Number });
    for (calls, bytes, kept) in [
        (1, "-OOM no\r\n*2\r\n:5\r\n:1\r\n", 0),
        (2, "-OOM no\r\n*2\r\n:5\r\n:1\r\n*2\r\n:5\r\n:2\r\n", 0),
        (2, "*2\r\n:5\r\n:1\r\n-OOM no\r\n*2\r\n:5\r\n:2\r\n", 1),
    ] {
        let response = exchanged(&expected[..calls], bytes).await;
        assert_eq!(response.replies.len(), kept, "{bytes:?}");
        assert!(response.broken.is_some(), "{bytes:?}");
    }
    let response = exchanged(&expected, "-OOM no\r\n*2\r\n:5\r\n:2\r\n").await;
    assert!(
        matches!(response.replies[..], [Value::ServerError(_), Value::Int(5)]),
        "the reply behind it proves it"
    );
}
