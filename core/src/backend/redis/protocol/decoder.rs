//! Bytes as replies. Bounded: what a server sends must not fill the memory of its clients.
//!
//! Only RESP2, because no connection asks for anything else.

use redis::Value;

use super::redaction::Redactor;
use super::values::server_error;

/// The most memory for one reply, in bytes. The longest section of INFO has some kilobytes.
pub(crate) const MAX_REPLY: usize = 256 * 1024;
/// The same for the keys of a SCAN: some thousands, each as long as the longest name of a resource.
pub(crate) const MAX_KEYS: usize = 4 * 1024 * 1024;
/// The same for the map of a cluster, which has a line for each of up to 16,384 ranges of slots.
pub(crate) const MAX_MAP: usize = 64 * 1024 * 1024;
/// What an item of a list takes: twice its size, because a growing list doubles.
const ITEM_COST: usize = 2 * size_of::<Value>();
/// Lists in lists. Ours have two levels.
const MAX_DEPTH: usize = 4;
/// Lists reserve no more than this before their items have come.
const MAX_RESERVED: usize = 128;

/// Turns bytes into replies, across pieces that end anywhere.
pub(crate) struct Decoder {
    /// Lists whose items are still to come, the innermost last.
    open: Vec<OpenList>,
    /// What the unfinished reply takes so far, without the bytes that are still to be decoded.
    cost: usize,
    /// Bytes of the unfinished line that were searched for its end.
    searched: usize,
    redactor: Option<Redactor>,
    /// The most memory for one reply.
    max_reply: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { open: Vec::new(), cost: 0, searched: 0, redactor: None, max_reply: MAX_REPLY }
    }
}

struct OpenList {
    missing: usize,
    items: Vec<Value>,
}

enum Element {
    Whole(Value),
    /// The head of a list with this number of items.
    List(usize),
}

/// Why bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Another protocol, or damaged.
    Malformed,
    TooLarge,
}

impl Decoder {
    /// Its errors are redacted.
    pub fn redacted(redactor: Redactor) -> Self {
        Self { redactor: Some(redactor), ..Self::default() }
    }

    /// For a server that may be scanned.
    pub const fn for_keys(mut self) -> Self {
        self.max_reply = MAX_KEYS;
        self
    }

    /// For a server whose replies may be as long as its cluster is large.
    pub const fn for_maps(mut self) -> Self {
        self.max_reply = MAX_MAP;
        self
    }

    /// The next reply, if all of it is there. Takes the bytes that it used off the front of `input`.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Value>, DecodeError> {
        loop {
            let Some((element, used)) = self.element(input)? else {
                self.check(input.len())?;
                return Ok(None);
            };
            *input = &input[used..];
            self.searched = 0;
            self.cost += used + ITEM_COST;
            self.check(0)?;
            let whole = match element {
                Element::Whole(value) => self.add(value),
                Element::List(0) => self.add(Value::Array(Vec::new())),
                Element::List(missing) => {
                    self.check(missing.saturating_mul(ITEM_COST))?;
                    if self.open.len() >= MAX_DEPTH {
                        return Err(DecodeError::Malformed);
                    }
                    self.open
                        .push(OpenList { missing, items: Vec::with_capacity(missing.min(MAX_RESERVED)) });
                    None
                }
            };
            if let Some(reply) = whole {
                self.cost = 0;
                return Ok(Some(reply));
            }
        }
    }

    /// What an unfinished reply takes.
    pub const fn cost(&self) -> usize {
        self.cost
    }

    fn check(&self, more: usize) -> Result<(), DecodeError> {
        if self.cost.saturating_add(more) > self.max_reply { Err(DecodeError::TooLarge) } else { Ok(()) }
    }

    /// Adds an item to the innermost list; returns the reply that it completes.
    fn add(&mut self, mut value: Value) -> Option<Value> {
        while let Some(list) = self.open.last_mut() {
            list.items.push(value);
            list.missing -= 1;
            if list.missing > 0 {
                return None;
            }
            value = Value::Array(self.open.pop().expect("it was just looked at").items);
        }
        Some(value)
    }

    /// The first element of `input` and its length, if all of it is there.
    fn element(&mut self, input: &[u8]) -> Result<Option<(Element, usize)>, DecodeError> {
        use DecodeError::{Malformed, TooLarge};
        let Some(mark @ (b':' | b'+' | b'-' | b'$' | b'*')) = input.first() else {
            return if input.is_empty() { Ok(None) } else { Err(Malformed) };
        };
        let Some(found) = input[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = input.len();
            return Ok(None);
        };
        let end = self.searched + found;
        let line = input[1..end].strip_suffix(b"\r").ok_or(Malformed)?;
        let used = end + 1;
        let whole = |value| Ok(Some((Element::Whole(value), used)));
        match mark {
            b':' => whole(Value::Int(number(line)?)),
            b'+' if line == b"OK" => whole(Value::Okay),
            b'+' => whole(Value::SimpleString(String::from_utf8_lossy(line).into_owned())),
            b'-' => whole(server_error(line, self.redactor.as_mut())),
            mark => {
                let length = match number(line)? {
                    -1 => return whole(Value::Nil),
                    length => usize::try_from(length).map_err(|_| Malformed)?,
                };
                if length > self.max_reply {
                    return Err(TooLarge);
                }
                if *mark == b'*' {
                    return Ok(Some((Element::List(length), used)));
                }
                match input.get(used..used + length + 2) {
                    // The head is short, and found again at once.
                    None => {
                        self.searched = 0;
                        Ok(None)
                    }
                    Some([bytes @ .., b'\r', b'\n']) => {
                        let value = Value::BulkString(bytes.to_vec());
                        Ok(Some((Element::Whole(value), used + length + 2)))
                    }
                    Some(_) => Err(Malformed),
                }
            }
        }
    }
}

fn number(digits: &[u8]) -> Result<i64, DecodeError> {
    let (negative, digits) = match digits {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(DecodeError::Malformed);
    }
    let mut value = 0_i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(DecodeError::Malformed);
        }
        let digit = i64::from(digit - b'0');
        // Below zero, where there is room for one more.
        let next = value.checked_mul(10).and_then(|value| value.checked_sub(digit));
        value = next.ok_or(DecodeError::Malformed)?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(DecodeError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::protocol::values::error_text;

    /// All replies of these bytes, in pieces of this size; stops at the first error.
    fn decode(bytes: &[u8], piece: usize) -> (Vec<Value>, Option<DecodeError>) {
        let (mut decoder, mut kept, mut replies) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            kept.extend_from_slice(piece);
            let mut rest = &kept[..];
            loop {
                match decoder.decode(&mut rest) {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return (replies, Some(error)),
                }
            }
            let used = kept.len() - rest.len();
            kept.drain(..used);
        }
        (replies, None)
    }

    fn refused(bytes: &[u8]) -> Option<DecodeError> {
        decode(bytes, 4_096).1
    }

    #[test]
    fn replies_are_the_same_wherever_the_pieces_end() {
        let bytes = b":5\r\n:-9223372036854775808\r\n:9223372036854775807\r\n+OK\r\n+PONG\r\n$-1\r\n*-1\r\n$0\r\n\r\n\
            $4\r\na\r\nb\r\n*0\r\n*2\r\n*3\r\n$1\r\nx\r\n*0\r\n$-1\r\n:17\r\n-ERR no way\r\n";
        let int = Value::Int;
        for piece in 1..=bytes.len() {
            let (mut replies, error) = decode(bytes, piece);
            assert_eq!(error, None);
            let Some(Value::ServerError(error)) = replies.pop() else { panic!("no error") };
            assert_eq!((error.code(), error.details()), ("ERR", Some("no way")));
            let expected = [
                int(5),
                int(i64::MIN),
                int(i64::MAX),
                Value::Okay,
                Value::SimpleString("PONG".into()),
                Value::Nil,
                Value::Nil,
                Value::BulkString(Vec::new()),
                Value::BulkString(b"a\r\nb".to_vec()),
                Value::Array(Vec::new()),
                Value::Array(vec![
                    Value::Array(vec![
                        Value::BulkString(b"x".to_vec()),
                        Value::Array(Vec::new()),
                        Value::Nil,
                    ]),
                    int(17),
                ]),
            ];
            assert_eq!(replies, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused_at_its_first_byte_or_line() {
        for bytes in [
            "HTTP/1.1 400",
            "\x15\x03\x03",
            "%1\r\n",
            ",1.5\r\n",
            "_\r\n",
            ">1\r\n",
            "\r\n",
            "!1\r\n",
            ":\r\n",
            ":-\r\n",
            ":1x\r\n",
            ": 1\r\n",
            ":+1\r\n",
            ":1\n",
            ":9223372036854775808\r\n",
            ":-9223372036854775809\r\n",
            "$-2\r\n",
            "*-2\r\n",
            "$1\r\nabc",
            "$\r\n",
            "*\r\n",
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            assert_eq!(refused(bytes.as_bytes()), Some(DecodeError::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_reply_that_takes_too_much_memory_is_refused_before_it_is_kept() {
        let flood =
            |head: &str, bytes: &str| [head.as_bytes(), &bytes.as_bytes().repeat(MAX_REPLY / 4)].concat();
        for bytes in [
            b"$100000000000\r\n".to_vec(),
            b"$9223372036854775807\r\n".to_vec(),
            b"*1000000000\r\n".to_vec(),
            b"*200000\r\n".to_vec(),
            flood("-ERR ", "aaaa"),
            flood("+", "aaaa"),
            flood(":", "1111"),
            flood("*2300\r\n", "$4\r\naaaa\r\n"),
            flood("*2300\r\n", "*1\r\n:1\r\n"),
        ] {
            assert_eq!(refused(&bytes), Some(DecodeError::TooLarge), "{:?}", bytes.get(..20));
        }
        let most = MAX_REPLY / 2;
        let (replies, error) = decode(format!("${most}\r\n{}\r\n", "a".repeat(most)).as_bytes(), 1_000);
        assert_eq!((replies.len(), error), (1, None));
    }

    #[test]
    fn words_of_a_server_are_cut_and_have_no_control_characters() {
        let (replies, _) = decode(b"-ERR \x1b[31mred\0\x07\xff\r\n", 4_096);
        let [Value::ServerError(error)] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(error_text(error), "ERR \\u{1b}[31mred\\0\\u{7}\u{fffd}");
        let line = format!("-{} {}\r\n", "A".repeat(300), "é".repeat(50_000));
        let (replies, _) = decode(line.as_bytes(), 4_096);
        let [Value::ServerError(error)] = &replies[..] else { panic!("{replies:?}") };
        assert!(error_text(error).chars().count() <= 501, "{}", error_text(error));
        for line in ["-\r\n", "- \r\n", "-  \r\n"] {
            let (replies, _) = decode(line.as_bytes(), 4_096);
            let [Value::ServerError(error)] = &replies[..] else { panic!("{replies:?}") };
            assert_eq!(error_text(error), "an error without a text", "{line:?}");
        }
    }
}
