//! Servers that are not a Redis primary.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::backend::redis::tests::servers::server::{Server, available};

/// A server that sends this, `at_once` or after the first bytes of its client, and closes.
fn stranger(says: &'static [u8], at_once: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(std::io::Result::ok) {
            if !at_once {
                let _ = client.read(&mut [0; 4_096]);
            }
            let _ = client.write_all(says);
            // Closed with unread bytes, a socket is reset, and its peer may lose what it was sent.
            let _ = client.shutdown(std::net::Shutdown::Write);
            while client.read(&mut [0; 4_096]).is_ok_and(|count| count > 0) {}
        }
    });
    url
}

fn refused(options: Options) -> Error {
    let backend = backend_with(options);
    on_io(async move { backend.connect().await }).unwrap_err()
}

#[test]
fn a_server_of_another_protocol_is_named() {
    for (says, at_once, name) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, "an HTTP server"),
        (b"<html>", false, "an HTTP server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", true, "an SSH server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", false, "a server that expects TLS (rediss://)"),
        (b"\x4a\x00\x00\x00\x0a8.0.36\x00", true, "MySQL or MariaDB"),
        (b"\x45\x00\x00\x00\xff\x6a\x04Host", true, "which refuses this host"),
        (b"E\x00\x00\x00\x90SFATAL\x00", false, "PostgreSQL"),
        (b"220 mail.test ESMTP\r\n", true, "a mail or FTP server"),
        (b"ERROR\r\n", false, "memcached"),
        (b">2\r\n", false, "RESP3"),
        (b"\xff\xfd\x18", true, "a server of another protocol"),
    ] {
        let error = refused(options(&stranger(says, at_once), 0));
        assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
        let message = error.to_string();
        assert!(message.contains("this is not Redis, but") && message.contains(name), "{name}: {message}");
    }
}

#[test]
fn a_sentinel_is_refused() {
    if !available() {
        return;
    }
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("sentinel.conf");
    std::fs::write(&file, "").unwrap();
    let Some(sentinel) = Server::try_start_sentinel(&file) else {
        eprintln!("SKIPPED: this server has no Sentinel");
        return;
    };
    let error = refused(options(&sentinel.url(), 0));
    assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
    assert!(error.to_string().contains("this is a Sentinel"), "{error}");
}

#[test]
fn a_node_of_a_cluster_is_refused_unless_it_has_all_keys() {
    if !available() {
        return;
    }
    let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let buses = [(); 3].map(|()| free_port());
    let start = |bus: &String| Server::try_start(&["--cluster-enabled", "yes", "--cluster-port", bus]);
    let Some(nodes) = buses.iter().map(start).collect::<Option<Vec<_>>>() else {
        eprintln!("SKIPPED: this server cannot choose the port of its cluster bus");
        return;
    };
    let [first, second, alone] = &nodes[..] else { panic!("three were started") };
    let slots = |node: &Server, from: u32, to: u32| {
        node.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
    };
    slots(first, 0, 8_191);
    slots(second, 8_192, 16_383);
    slots(alone, 0, 16_383);
    first.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &second.port.to_string(), &buses[1]]);
    for node in [first, second] {
        eventually("the nodes know each other", || {
            node.run::<String>(&["CLUSTER", "INFO"]).contains("cluster_size:2")
        });
        let error = refused(options(&node.url(), 0));
        assert_eq!(code(&error), "UNSUPPORTED");
        assert!(error.to_string().contains("a node of a Redis Cluster"), "{error}");
    }
    let backend = backend(&alone.url(), 0);
    on_io(async move { backend.connect().await }).unwrap();
}
