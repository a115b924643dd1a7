//! Text out of replies.

use redis::{ServerError, Value};

use super::redaction::{KNOWN_CODES, Redactor};
use crate::error::Error;

/// The text of a reply that is text.
pub(crate) fn text(reply: Value) -> Option<String> {
    match reply {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The texts of a reply that is a list; empty for other replies.
pub(crate) fn texts(reply: Value) -> Vec<String> {
    match reply {
        Value::Array(items) => items.into_iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

/// The reply of TIME, in µs since 1970.
pub(crate) fn micros(reply: Value) -> Option<u64> {
    let [seconds, micros] = <[String; 2]>::try_from(texts(reply)).ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)
}

/// An error reply in the server's words, for messages; never empty.
pub(crate) fn error_text(error: &ServerError) -> String {
    let text = match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    };
    if text.trim().is_empty() { "an error without a text".to_owned() } else { text }
}

/// The first word of the error reply behind this error, such as `WRONGPASS`; `None` if there is none, or if
/// the word is not a known one.
pub fn reply_code(error: &Error) -> Option<&'static str> {
    let first = error.cause()?.split_ascii_whitespace().next()?;
    KNOWN_CODES.into_iter().find(|&code| code == first && !code.starts_with('@'))
}

/// The most characters of a text that a server chose, in messages.
const MAX_TEXT: usize = 500;

/// An error reply for this line: cut, and without control characters, which a terminal would obey.
pub(crate) fn server_error(line: &[u8], redactor: Option<&mut Redactor>) -> Value {
    // A character has at most four bytes, so this keeps enough of them.
    let line = &line[..line.len().min(4 * MAX_TEXT)];
    let line = redactor.map_or_else(|| line.into(), |redactor| redactor.error_line(line));
    let line = format!("-{}\r\n", printable(&String::from_utf8_lossy(&line)));
    redis::parse_redis_value(line.as_bytes()).expect("a line without control characters is an error reply")
}

/// A text that a server chose, for messages: cut, and its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for (at, char) in text.chars().enumerate() {
        if at == MAX_TEXT {
            out.push('…');
            break;
        }
        let hidden =
            matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || hidden {
            out.extend(char.escape_debug());
        } else {
            out.push(char);
        }
    }
    out
}
