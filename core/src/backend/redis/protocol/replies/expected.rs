//! Which replies can be the answer to a command? A server, or a proxy in front of it, that sends one reply
//! too many shifts every later one: then the answer to one command would be taken for the answer to another.

use redis::Value;

use crate::backend::redis::protocol::decoder::{MAX_KEYS, MAX_MAP, MAX_REPLY};

/// The most memory for most replies, in bytes. Those of scripts have at most 65 short items.
pub(crate) const MAX_SHORT_REPLY: usize = 64 * 1024;

/// What the answer to a command looks like. An error can be the answer to any command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedReply {
    /// A list that ends with this number, which no other call of this connection has.
    Script {
        echo: i64,
        shape: ScriptReply,
    },
    /// The digits of this number.
    Echo(i64),
    Integer,
    /// A list of two numbers.
    Pair,
    Text,
    List,
    /// A list, or nothing.
    OptionalList,
    /// A list of names and values.
    Table,
    /// A list that is as long as a cluster is large.
    Map,
    /// Of a SCAN: a cursor and a list of keys.
    Keys,
    /// Of a PING on a connection that has subscribed: a list, or text from a proxy that makes no difference.
    Pong,
}

/// What a script returns before the echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptReply {
    /// This many numbers or errors.
    Numbers(usize),
    /// One number or error.
    Number,
    /// A list, or nil.
    Record,
}

impl ExpectedReply {
    /// The most memory that the reply may take, in bytes.
    pub const fn max_size(self) -> usize {
        match self {
            Self::Text | Self::Table => MAX_REPLY,
            Self::Keys => MAX_KEYS,
            Self::Map => MAX_MAP,
            _ => MAX_SHORT_REPLY,
        }
    }

    /// The reply without its echo: the items of a script that returns several, or the only item. `None`: this
    /// cannot be the answer.
    pub fn accept(self, reply: Value) -> Option<Value> {
        if matches!(reply, Value::ServerError(_)) {
            return Some(reply);
        }
        match (self, reply) {
            (Self::Pair, Value::Array(numbers)) => {
                matches!(numbers[..], [Value::Int(_), Value::Int(_)]).then_some(Value::Array(numbers))
            }
            (Self::Keys, Value::Array(parts)) => {
                matches!(parts[..], [Value::BulkString(_), Value::Array(_)]).then_some(Value::Array(parts))
            }
            (Self::Script { echo, shape }, Value::Array(items)) => shape.accept(echo, items),
            (Self::Echo(echo), Value::BulkString(digits)) => {
                let answers = std::str::from_utf8(&digits).is_ok_and(|digits| digits.parse() == Ok(echo));
                answers.then_some(Value::BulkString(digits))
            }
            (Self::Integer, reply @ Value::Int(_))
            | (
                Self::Text | Self::Pong,
                reply @ (Value::Okay | Value::SimpleString(_) | Value::BulkString(_)),
            )
            | (
                Self::List | Self::OptionalList | Self::Table | Self::Map | Self::Pong,
                reply @ Value::Array(_),
            )
            | (Self::OptionalList, reply @ Value::Nil) => Some(reply),
            _ => None,
        }
    }
}

impl ScriptReply {
    fn accept(self, echo: i64, mut items: Vec<Value>) -> Option<Value> {
        if items.pop() != Some(Value::Int(echo)) {
            return None;
        }
        let is_number = |item: &Value| matches!(item, Value::Int(_) | Value::ServerError(_));
        match self {
            Self::Numbers(count) => {
                (items.len() == count && items.iter().all(is_number)).then_some(Value::Array(items))
            }
            Self::Number => items.pop().filter(|item| items.is_empty() && is_number(item)),
            Self::Record => items.pop().filter(|item| {
                items.is_empty() && matches!(item, Value::Array(_) | Value::Nil | Value::ServerError(_))
            }),
        }
    }
}
