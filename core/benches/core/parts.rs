//! Parts of the hot paths, in memory.

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fencelock_core::backend::contract::{Grant, Request};
use fencelock_core::backend::redis::bench::{Packing, Queueing, Replies};
use fencelock_core::lease::Strategy;
use fencelock_core::lease::token;
use fencelock_core::manager::HeldLease;
use fencelock_core::runtime::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::{TOGETHER, names, repeat, wanted};

pub fn token_rule(operations: u32) -> Duration {
    let mut last = 1_700_000_000_000_000;
    repeat(operations, || {
        last = token::next(black_box(last), black_box(1_700_000_000_000_000), black_box(0)).unwrap_or(last);
        last
    })
}

/// An acquire from the name to the lease that its holder sees, without the backend.
pub fn new_request(operations: u32) -> Duration {
    let clock = Clock::System;
    repeat(operations, || {
        let request = wanted(black_box("order:12345")).first();
        let grant = Grant { token: 1, sent: clock.boot(), acks: None };
        let deadline = request.ttl.deadline(grant.sent);
        HeldLease::new(Strategy::Strong, &request, &grant, deadline, None, None)
    })
}

pub fn queue(operations: u32) -> Duration {
    let requests = requests();
    let mut queueing = Queueing::default();
    repeat(operations, || assert_eq!(queueing.pass(black_box(&requests)), TOGETHER))
}

pub fn pack_acquires(operations: u32) -> Duration {
    let mut packing = Packing::new(&requests()).expect("a prefix that fits");
    repeat(operations, || packing.acquires().len())
}

pub fn pack_releases(operations: u32) -> Duration {
    let mut packing = Packing::new(&requests()).expect("a prefix that fits");
    repeat(operations, || packing.releases().len())
}

/// One thread and no sockets, so that apart from the server's one write only the connection's work counts.
pub fn replies(operations: u32) -> Duration {
    let requests = requests();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(answer(theirs));
        let (reader, writer) = tokio::io::split(ours);
        let replies = Replies::start(reader, writer);
        let begin = Instant::now();
        for _ in 0..operations {
            assert_eq!(replies.settle(&requests).await, TOGETHER);
        }
        begin.elapsed()
    })
}

/// Replies to every two echoes as Redis does to a batch with a WAIT and a PING.
async fn answer(mut stream: DuplexStream) {
    let mut head = format!("*{}\r\n", TOGETHER + 1);
    (0..TOGETHER).for_each(|_| head.push_str(":1700000000000000\r\n"));
    let mut answer = String::new();
    while let (Ok(call), Ok(ping)) = (stream.read_i64().await, stream.read_i64().await) {
        let digits = ping.to_string();
        answer.clear();
        answer.push_str(&head);
        let _ = write!(answer, ":{call}\r\n:2\r\n${}\r\n{digits}\r\n", digits.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn requests() -> Vec<Request> {
    names().iter().map(|name| wanted(name).first()).collect()
}
