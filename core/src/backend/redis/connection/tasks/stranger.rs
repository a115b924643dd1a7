//! What is on the other end if it is not Redis?

use std::io::{Error as IoError, ErrorKind};

/// Why a connection ends whose first bytes are no reply.
pub(super) fn not_redis(bytes: &[u8]) -> String {
    format!("this is not Redis, but {}", stranger(bytes))
}

/// Who begins like that.
fn stranger(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'H', b'T', b'T', b'P', b'/', ..] | [b'<', ..] => "an HTTP server",
        [b'S', b'S', b'H', b'-', ..] => "an SSH server",
        // An alert: it takes our first command for a damaged handshake.
        [0x15, 3, ..] => "a server that expects TLS (rediss://)",
        // Its greeting has a length, a number and the version of the protocol.
        [_, _, 0, 0, 10, ..] => "MySQL or MariaDB",
        [_, _, 0, 0, 0xff, ..] => "MySQL or MariaDB, which refuses this host",
        [b'E', 0, ..] => "PostgreSQL",
        [b'2', b'2', b'0', b' ' | b'-', ..] => "a mail or FTP server",
        [b'E', b'R', b'R', b'O', b'R', ..] => "memcached",
        [b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%' | b'~' | b'>' | b'|', ..] => {
            "a server that replies in RESP3 without being asked to"
        }
        _ => "a server of another protocol",
    }
}

/// Whether the other end closed the connection, in one of the ways in which that shows.
pub(in super::super) fn is_closed(error: &IoError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    )
}
