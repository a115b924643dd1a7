//! The map of a cluster: which primary has which slot, as the nodes tell it in reply to `CLUSTER SLOTS`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use crate::backend::redis::config::slot::SLOTS;
use crate::backend::redis::protocol::values::text;

/// How long a replica that is announced no more is kept in mind.
const FORMER: Duration = Duration::from_secs(60);

/// A slot without a primary.
const NO_SHARD: u16 = u16::MAX;

/// Which primary has which slot. Those of two nodes are equal if slots and primaries are, whatever the
/// replicas.
#[derive(Debug, Clone)]
pub(crate) struct ClusterMap {
    /// In the order of their primaries' ids.
    pub shards: Vec<MapShard>,
    /// For each slot the index of its shard.
    slots: Box<[u16]>,
    /// Whether it has what a node said of a single slot.
    pub patched: bool,
}

/// A primary and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapShard {
    pub primary: Member,
    pub replicas: Vec<Member>,
    /// Replicas that are announced no more, and since when. One that is being promoted is for a moment
    /// neither a replica nor a primary with slots.
    pub former: Vec<(Instant, Member)>,
}

/// A node as it is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Stays the same for the life of a node.
    pub id: Arc<str>,
    pub host: String,
    pub port: u16,
}

impl PartialEq for ClusterMap {
    fn eq(&self, other: &Self) -> bool {
        let primaries =
            |map: &'_ Self| -> Vec<Member> { map.shards.iter().map(|shard| shard.primary.clone()).collect() };
        self.slots == other.slots && primaries(self) == primaries(other)
    }
}

impl MapShard {
    /// A primary without replicas.
    pub const fn of(primary: Member) -> Self {
        Self { primary, replicas: Vec::new(), former: Vec::new() }
    }
}

impl Member {
    /// A node of which only the address is known.
    pub fn at(host: &str, port: u16) -> Self {
        Self { id: format!("{host}:{port}").into(), host: host.to_owned(), port }
    }

    /// Whether it is announced at this address.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host == host
    }
}

impl ClusterMap {
    /// From the reply to `CLUSTER SLOTS` of the node at this host; `None` if it is no such reply, or has no
    /// slot that a primary serves.
    pub fn parse(reply: Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let mut shards = HashMap::<Arc<str>, (MapShard, Vec<(u16, u16)>)>::new();
        for range in ranges {
            let Value::Array(fields) = range else { return None };
            let mut fields = fields.into_iter();
            let (from, to) = (slot(&fields.next()?)?, slot(&fields.next()?)?);
            let mut nodes = fields.map(|node| member(node, asked));
            // Without its primary, no node serves a range.
            let Some(Some(primary)) = nodes.next() else { continue };
            let shard = shards.entry(Arc::clone(&primary.id)).or_insert_with(|| {
                (MapShard { replicas: nodes.flatten().collect(), ..MapShard::of(primary) }, Vec::new())
            });
            shard.1.push((from, to));
        }
        let mut shards: Vec<_> = shards.into_values().collect();
        shards.sort_unstable_by(|(one, _), (other, _)| one.primary.id.cmp(&other.primary.id));
        let mut slots = vec![NO_SHARD; usize::from(SLOTS)].into_boxed_slice();
        for (index, (_, ranges)) in shards.iter().enumerate() {
            for &(from, to) in ranges {
                if from <= to {
                    slots[usize::from(from)..=usize::from(to)].fill(u16::try_from(index).ok()?);
                }
            }
        }
        let map =
            Self { shards: shards.into_iter().map(|(shard, _)| shard).collect(), slots, patched: false };
        (map.served() > 0).then_some(map)
    }

    /// Keeps those replicas of an older map in mind that this one does not have.
    pub fn remember(&mut self, older: &Self) {
        let members: HashSet<_> = self.members().map(|member| Arc::clone(&member.id)).collect();
        for shard in &mut self.shards {
            let Some(before) = older.shards.iter().find(|it| it.primary.id == shard.primary.id) else {
                continue;
            };
            let gone = before.replicas.iter().map(|replica| (Instant::now(), replica.clone()));
            let gone =
                gone.chain(before.former.iter().filter(|(since, _)| since.elapsed() < FORMER).cloned());
            shard.former = gone.filter(|(_, replica)| !members.contains(&replica.id)).collect();
        }
    }

    /// The index of the shard that has a slot.
    pub fn shard_of(&self, slot: u16) -> Option<usize> {
        self.slots.get(usize::from(slot)).filter(|&&shard| shard != NO_SHARD).map(|&shard| shard.into())
    }

    /// How many slots have a primary.
    pub fn served(&self) -> usize {
        self.slots.iter().filter(|&&shard| shard != NO_SHARD).count()
    }

    /// Every node that is announced.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.shards.iter().flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas))
    }

    /// The same map with this slot at another address, as a node said. A replica at that address has taken
    /// over its whole shard.
    pub fn with_moved(&self, slot: u16, host: &str, port: u16) -> Self {
        let mut map = Self { patched: true, ..self.clone() };
        let known = |shard: &MapShard| shard.primary.is_at(host, port);
        let index = map.shards.iter().position(known).unwrap_or_else(|| {
            let owner = self.shard_of(slot);
            let promoted = owner.and_then(|at| {
                let MapShard { replicas, former, .. } = &map.shards[at];
                let mut known = replicas.iter().chain(former.iter().map(|(_, replica)| replica));
                Some((at, known.find(|it| it.is_at(host, port))?.clone()))
            });
            if let Some((at, replica)) = promoted {
                let MapShard { primary, replicas, .. } = &mut map.shards[at];
                replicas.retain(|it| it.id != replica.id);
                replicas.push(std::mem::replace(primary, replica));
                return at;
            }
            map.shards.push(MapShard::of(Member::at(host, port)));
            map.shards.len() - 1
        });
        if let (Some(place), Ok(index)) = (map.slots.get_mut(usize::from(slot)), u16::try_from(index)) {
            *place = index;
        }
        map
    }
}

/// What one node said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub map: ClusterMap,
    /// How many changes of the cluster it has heard of, if it says so.
    pub epoch: u64,
}

/// The map that most of them agree on; among those with as many voices, the one with most slots, then the
/// one of the node that has heard of most changes.
pub(crate) fn most_agreed(answers: Vec<Answer>) -> Option<ClusterMap> {
    let voices: Vec<usize> =
        answers.iter().map(|one| answers.iter().filter(|other| one.map == other.map).count()).collect();
    let ranked = answers.into_iter().zip(voices);
    let best = ranked.max_by_key(|(answer, voices)| (*voices, answer.map.served(), answer.epoch));
    best.map(|(answer, _)| answer.map)
}

fn slot(value: &Value) -> Option<u16> {
    match value {
        Value::Int(slot) => u16::try_from(*slot).ok().filter(|&slot| slot < SLOTS),
        _ => None,
    }
}

/// A node of the reply to the host that was asked; `None` if it cannot be reached.
fn member(node: Value, asked: &str) -> Option<Member> {
    let Value::Array(fields) = node else { return None };
    let mut fields = fields.into_iter();
    let host = text(fields.next()?).unwrap_or_default();
    let Value::Int(port) = fields.next()? else { return None };
    let port = u16::try_from(port).ok().filter(|&port| port > 0)?;
    let id = fields.next().and_then(text);
    let metadata = match fields.next() {
        Some(Value::Array(fields)) => fields,
        _ => Vec::new(),
    };
    let host = match host.as_str() {
        // It does not know how it is reached, except by who asks.
        "" | "0.0.0.0" | "::" => asked.to_owned(),
        // It has no host name to announce.
        "?" => metadata_value(metadata, "ip")?,
        _ => host,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host).to_owned();
    let id = id.filter(|id| !id.is_empty()).map_or_else(|| Member::at(&host, port).id, Arc::from);
    (!host.is_empty()).then_some(Member { id, host, port })
}

/// A value in a list of names and values; an empty one is none.
fn metadata_value(fields: Vec<Value>, name: &str) -> Option<String> {
    let mut texts = fields.into_iter().map(|field| text(field).unwrap_or_default());
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        if key == name {
            return Some(value).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Value {
        redis::parse_redis_value(text.replace('\n', "\r\n").as_bytes()).unwrap()
    }

    fn bulk(text: &str) -> String {
        format!("${}\n{text}\n", text.len())
    }

    /// A range of slots as a node tells it; each of its nodes is raw, too.
    fn range(from: i32, to: i32, nodes: &[String]) -> String {
        format!("*{}\n:{from}\n:{to}\n{}", nodes.len() + 2, nodes.concat())
    }

    fn node(host: &str, port: u32, id: &str) -> String {
        format!("*4\n{host}:{port}\n{}*0\n", bulk(id))
    }

    fn parse(ranges: &[String]) -> Option<ClusterMap> {
        ClusterMap::parse(reply(&format!("*{}\n{}", ranges.len(), ranges.concat())), "asked.test")
    }

    fn primary(map: &ClusterMap, slot: u16) -> Option<String> {
        map.shard_of(slot).map(|at| {
            let Member { host, port, .. } = &map.shards[at].primary;
            format!("{host}:{port}")
        })
    }

    #[test]
    fn hosts_are_read_in_all_forms_that_servers_announce() {
        let metadata = |fields: &[&str]| {
            let fields: Vec<String> = fields.iter().map(|field| bulk(field)).collect();
            format!("*{}\n{}", fields.len(), fields.concat())
        };
        let with = |host: &str, metadata: String| format!("*4\n{host}:7000\n{}{metadata}", bulk("id"));
        for (node, expected) in [
            (node(&bulk("10.0.0.1"), 7000, "id"), Some("10.0.0.1:7000")),
            (node(&bulk("::1"), 7000, "id"), Some("::1:7000")),
            (node(&bulk("[::1]"), 7000, "id"), Some("::1:7000")),
            (node("$-1\n", 7000, "id"), Some("asked.test:7000")),
            (node(&bulk(""), 7000, "id"), Some("asked.test:7000")),
            (node(&bulk("0.0.0.0"), 7000, "id"), Some("asked.test:7000")),
            (node(&bulk("10.0.0.1"), 0, "id"), None),
            (node(&bulk("10.0.0.1"), 70_000, "id"), None),
            (with(&bulk("?"), metadata(&["ip", "10.0.0.1"])), Some("10.0.0.1:7000")),
            (with(&bulk("?"), metadata(&["hostname", "", "ip", "10.0.0.2"])), Some("10.0.0.2:7000")),
            (with(&bulk("?"), metadata(&["hostname", ""])), None),
            (with(&bulk("?"), metadata(&["ip", ""])), None),
            (with(&bulk("?"), "*0\n".into()), None),
            (with(&bulk("10.0.0.1"), metadata(&["hostname", ""])), Some("10.0.0.1:7000")),
            (format!("*2\n{}:7000\n", bulk("10.0.0.1")), Some("10.0.0.1:7000")),
        ] {
            let map = parse(&[range(0, 16_383, std::slice::from_ref(&node))]);
            assert_eq!(map.and_then(|map| primary(&map, 5)).as_deref(), expected, "{node}");
        }
    }

    #[test]
    fn a_map_has_the_primary_of_each_slot_and_its_replicas() {
        let [one, two, three] = [("1", 1), ("2", 2), ("3", 3)].map(|(id, port)| node(&bulk("h"), port, id));
        let map =
            parse(&[range(0, 99, &[one.clone(), three]), range(100, 200, &[two]), range(300, 300, &[one])])
                .unwrap();
        assert_eq!(map.served(), 202);
        assert_eq!(map.shards.len(), 2);
        let of = |slot| primary(&map, slot);
        assert_eq!([of(0), of(99), of(300)], [(); 3].map(|()| Some("h:1".to_owned())));
        assert_eq!([of(100), of(200)], [(); 2].map(|()| Some("h:2".to_owned())));
        assert_eq!([of(201), of(16_383), of(u16::MAX)], [None, None, None]);
        assert_eq!(map.shards[0].replicas, [Member { id: "3".into(), host: "h".into(), port: 3 }]);
        assert_eq!(map.members().count(), 3);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for bad in ["*0\n", ":1\n", "*1\n:1\n", "*1\n*0\n", "*1\n*2\n:0\n:16384\n", "*1\n*2\n:-1\n:5\n"] {
            assert!(ClusterMap::parse(reply(bad), "h").is_none(), "{bad}");
        }
        assert!(parse(&[range(5, 4, &[node(&bulk("h"), 1, "1")])]).is_none());
        assert!(parse(&[range(0, 16_383, &[":1\n".into()])]).is_none());
        assert!(parse(&[range(0, 16_383, &[])]).is_none());
    }

    #[test]
    fn a_moved_slot_changes_alone_unless_a_replica_took_over() {
        let [one, two, three] = [("1", 1), ("2", 2), ("3", 3)].map(|(id, port)| node(&bulk("h"), port, id));
        let map = parse(&[range(0, 99, &[one, three]), range(100, 199, &[two])]).unwrap();
        let to_known = map.with_moved(5, "h", 2);
        assert_eq!([primary(&to_known, 5), primary(&to_known, 6)], ["h:2", "h:1"].map(|it| Some(it.into())));
        let to_new = map.with_moved(5, "new", 9);
        assert_eq!([primary(&to_new, 5), primary(&to_new, 6)], ["new:9", "h:1"].map(|it| Some(it.into())));
        assert_eq!(&*to_new.shards[2].primary.id, "new:9");
        let promoted = map.with_moved(5, "h", 3);
        assert_eq!([primary(&promoted, 5), primary(&promoted, 6)], ["h:3", "h:3"].map(|it| Some(it.into())));
        assert_eq!(&*promoted.shards[0].replicas[0].id, "1");
        assert!(map.with_moved(u16::MAX, "h", 2).shard_of(u16::MAX).is_none());
    }

    #[test]
    fn a_replica_that_vanished_while_it_is_promoted_is_remembered() {
        let [one, two, three] = [("1", 1), ("2", 2), ("3", 3)].map(|(id, port)| node(&bulk("h"), port, id));
        let before = parse(&[
            range(0, 99, &[one.clone(), three.clone()]),
            range(100, 199, std::slice::from_ref(&two)),
        ]);
        let mut map = parse(&[range(0, 99, &[one]), range(100, 199, &[two])]).unwrap();
        map.remember(&before.unwrap());
        let promoted = map.with_moved(5, "h", 3);
        assert_eq!([primary(&promoted, 5), primary(&promoted, 6)], ["h:3", "h:3"].map(|it| Some(it.into())));
        let mut after = parse(&[range(0, 99, &[three])]).unwrap();
        after.remember(&map);
        assert!(after.shards[0].former.is_empty(), "it is a primary now");
    }

    #[test]
    fn the_map_with_most_agreement_counts() {
        let map = |ranges: &[(i32, i32, &str)]| {
            let ranges: Vec<_> =
                ranges.iter().map(|&(from, to, id)| range(from, to, &[node(&bulk("h"), 1, id)])).collect();
            parse(&ranges).unwrap()
        };
        let answer = |map: &ClusterMap, epoch| Answer { map: map.clone(), epoch };
        let (old, new, short) = (map(&[(0, 16_383, "1")]), map(&[(0, 16_383, "2")]), map(&[(0, 9, "1")]));
        let best = |answers| most_agreed(answers).unwrap();
        assert_eq!(best(vec![answer(&old, 9), answer(&new, 1), answer(&new, 1)]), new);
        assert_eq!(best(vec![answer(&short, 9), answer(&old, 1)]), old);
        assert_eq!(best(vec![answer(&new, 2), answer(&old, 1)]), new);
        assert_eq!(best(vec![answer(&old, 1), answer(&new, 2)]), new);
        assert_eq!(best(vec![answer(&short, 1), answer(&short, 1), answer(&new, 2)]), short);
        assert!(most_agreed(Vec::new()).is_none());
    }
}
