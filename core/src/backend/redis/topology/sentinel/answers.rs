//! What one Sentinel answers, out of its replies. They may be of any form: a foreign server is asked by
//! mistake, or a service that knows only some of the commands.

use std::sync::Arc;

use redis::Value;

use super::election::Vote;
use crate::backend::redis::protocol::values::{printable, text, texts};

/// A host and a port, as a Sentinel announces them.
pub(super) type Announced = (Arc<str>, u16);

/// The answer of one Sentinel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The primary; `None` if the Sentinel does not know the name.
    pub vote: Option<Vote>,
    /// The run id of the server at that address.
    pub run_id: Option<Arc<str>>,
    /// Whether the Sentinel cannot reach the primary.
    pub is_down: bool,
    /// Identifies the Sentinel.
    pub id: Option<Arc<str>>,
    /// The other Sentinels; `None` if it was not asked for them, or does not say.
    pub others: Option<Vec<Peer>>,
}

/// Another Sentinel, as a Sentinel announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub address: Announced,
    pub id: Option<Arc<str>>,
    pub is_down: bool,
}

/// The answer in the replies to SENTINEL GET-MASTER-ADDR-BY-NAME and SENTINEL MASTER. `None`: the first is
/// not such a reply.
pub(super) fn answer(address: Value, master: Value) -> Option<Answer> {
    let address = match address {
        Value::Nil => return Some(Answer::default()),
        Value::Array(items) if items.is_empty() => return Some(Answer::default()),
        list @ Value::Array(_) => announced(&texts(list))?,
        _ => return None,
    };
    let fields = Fields::new(master);
    let flags = fields.get("flags").unwrap_or_default();
    // While a Sentinel leads a failover it names the new primary, and still describes the old one.
    let is_described = fields.address().as_ref() == Some(&address);
    Some(Answer {
        run_id: fields.get("runid").filter(|id| is_described && !id.is_empty()).map(Into::into),
        is_down: is_described && is_down(flags),
        vote: Some(Vote { address, epoch: fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()) }),
        ..Answer::default()
    })
}

/// The Sentinels in the reply to SENTINEL SENTINELS.
pub(super) fn peers(reply: Value) -> Option<Vec<Peer>> {
    let Value::Array(items) = reply else { return None };
    let peer = |item| {
        let fields = Fields::new(item);
        Some(Peer {
            address: fields.address()?,
            id: fields.get("runid").filter(|id| !id.is_empty()).map(Into::into),
            is_down: is_down(fields.get("flags").unwrap_or_default()),
        })
    };
    Some(items.into_iter().filter_map(peer).collect())
}

/// The names in the reply to SENTINEL MASTERS.
pub(super) fn names(reply: Value) -> Vec<String> {
    let Value::Array(items) = reply else { return Vec::new() };
    items.into_iter().filter_map(|item| Fields::new(item).get("name").map(printable)).collect()
}

/// The id in the reply to SENTINEL MYID.
pub(super) fn id(reply: Value) -> Option<Arc<str>> {
    text(reply).filter(|id| !id.is_empty()).map(Into::into)
}

/// Whether an announcement is about the primary of this name. The Sentinels publish those of all primaries
/// that they watch.
pub(super) fn is_about(name: &str, channel: &[u8], message: &[u8]) -> bool {
    let Ok(message) = std::str::from_utf8(message) else { return false };
    let mut words = message.split(' ');
    let subject = match channel {
        b"+switch-master" => words.next(),
        b"+reset-master" => words.nth(1),
        // "slave 10.0.0.2:6379 10.0.0.2 6379 @ name 10.0.0.1 6379"
        _ => words.find(|&word| word == "@").and_then(|_| words.next()),
    };
    subject == Some(name)
}

fn announced(words: &[String]) -> Option<Announced> {
    let [host, port] = words else { return None };
    let port = port.parse().ok().filter(|&port| port > 0)?;
    (!host.is_empty()).then(|| (host.as_str().into(), port))
}

fn is_down(flags: &str) -> bool {
    flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"))
}

/// A list of names and values.
struct Fields(Vec<String>);

impl Fields {
    fn new(reply: Value) -> Self {
        Self(texts(reply))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    }

    fn address(&self) -> Option<Announced> {
        announced(&[self.get("ip")?.to_owned(), self.get("port")?.to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Value {
        Value::Array(words.split(' ').map(|word| Value::BulkString(word.into())).collect())
    }

    #[test]
    fn the_answer_has_address_epoch_and_the_identity_of_the_server() {
        let master = "name x ip 10.0.0.1 port 6379 runid abc flags master,s_down config-epoch 7";
        let answer = answer(list("10.0.0.1 6379"), list(master)).unwrap();
        assert_eq!(answer.vote, Some(Vote { address: ("10.0.0.1".into(), 6379), epoch: Some(7) }));
        assert_eq!((answer.run_id.as_deref(), answer.is_down), (Some("abc"), true));
    }

    #[test]
    fn the_leader_of_a_failover_describes_the_old_primary_in_the_new_epoch() {
        let master = "name x ip 10.0.0.1 port 6379 runid abc flags master,o_down config-epoch 8";
        let answer = answer(list("10.0.0.2 6379"), list(master)).unwrap();
        assert_eq!(answer.vote, Some(Vote { address: ("10.0.0.2".into(), 6379), epoch: Some(8) }));
        assert_eq!((answer.run_id, answer.is_down), (None, false), "they are the old one's");
    }

    #[test]
    fn what_is_missing_is_unknown() {
        let error = redis::parse_redis_value(b"-NOPERM no permissions\r\n").unwrap();
        let only_address = answer(list("db.test 12000"), error.clone()).unwrap();
        assert_eq!(only_address.vote.unwrap().epoch, None);
        assert_eq!(answer(Value::Nil, error.clone()), Some(Answer::default()), "an unknown name");
        assert_eq!(answer(Value::Array(vec![]), Value::Nil), Some(Answer::default()));
        let foreign = [
            error.clone(),
            Value::Int(1),
            list("10.0.0.1"),
            list("10.0.0.1 0"),
            list("10.0.0.1 99999"),
            list("10.0.0.1 x"),
            list("a 1 2"),
            Value::Array(vec![Value::BulkString(b"".into()), Value::BulkString(b"6379".into())]),
            Value::Array(vec![Value::Nil, Value::Int(7)]),
        ];
        for reply in foreign {
            assert_eq!(answer(reply, list("odd")), None);
        }
        assert_eq!(peers(error), None);
        assert_eq!(peers(Value::Array(vec![list("odd"), Value::Nil, list("ip 10.0.0.1")])), Some(vec![]));
        assert_eq!(id(Value::Int(7)), None);
    }

    #[test]
    fn other_sentinels_and_names_are_read() {
        let one = list("name abc ip 10.0.0.1 port 26379 runid abc flags sentinel");
        let two = list("ip ::1 port 26380 runid def flags s_down,sentinel,disconnected");
        let peers = peers(Value::Array(vec![one.clone(), two])).unwrap();
        let (one_id, two_id) = (Some("abc".into()), Some("def".into()));
        assert_eq!(peers[0], Peer { address: ("10.0.0.1".into(), 26379), id: one_id, is_down: false });
        assert_eq!(peers[1], Peer { address: ("::1".into(), 26380), id: two_id, is_down: true });
        assert_eq!(names(Value::Array(vec![one, Value::Int(1)])), ["abc"]);
    }

    #[test]
    fn announcements_of_other_primaries_are_ignored() {
        let about = |channel: &str, message: &str| is_about("mine", channel.as_bytes(), message.as_bytes());
        assert!(about("+switch-master", "mine 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(!about("+switch-master", "other 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(about("+promoted-slave", "slave 10.0.0.2:6379 10.0.0.2 6379 @ mine 10.0.0.1 6379"));
        assert!(!about("+promoted-slave", "slave mine 10.0.0.2 6379 @ other 10.0.0.1 6379"));
        assert!(about("+config-update-from", "sentinel abc 10.0.0.3 26379 @ mine 10.0.0.1 6379"));
        assert!(about("+reset-master", "master mine 10.0.0.1 6379"));
        for message in ["", "@", "mine", "master"] {
            assert!(!about("+config-update-from", message) && !about("+reset-master", message));
        }
        assert!(!is_about("mine", b"+switch-master", b"\xff\xfe"));
    }
}
