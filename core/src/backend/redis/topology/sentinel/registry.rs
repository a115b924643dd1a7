//! The Sentinels that are known: those of the options, and those that they tell of.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answers::{Answer, Peer};
use super::instance::Sentinel;
use crate::backend::redis::config::Settings;
use crate::backend::redis::config::address::{Address, AnnouncedAddresses};
use crate::runtime::sync::Mutex;

/// The most Sentinels that are asked.
const MAX_SENTINELS: usize = 9;
/// They are asked for the others again after this time.
const LEARN_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Registry {
    name: Arc<str>,
    settings: Arc<Settings>,
    announced: AnnouncedAddresses,
    state: Mutex<State>,
}

struct State {
    /// Those of the options come first.
    sentinels: Vec<Arc<Sentinel>>,
    /// When the others were told last.
    learned: Option<Instant>,
    closed: bool,
}

impl Registry {
    pub fn new(
        name: Arc<str>,
        addresses: Vec<Address>,
        settings: Arc<Settings>,
        announced: AnnouncedAddresses,
    ) -> Self {
        let configured = |address| Arc::new(Sentinel::new(address, true, Arc::clone(&name), &settings));
        let sentinels = addresses.into_iter().map(configured).collect();
        let state = Mutex::new(State { sentinels, learned: None, closed: false });
        Self { name, settings, announced, state }
    }

    pub fn all(&self) -> Vec<Arc<Sentinel>> {
        self.state.lock().sentinels.clone()
    }

    /// How many there are.
    pub fn known(&self) -> usize {
        self.state.lock().sentinels.len()
    }

    /// Whether the next question is also for the other Sentinels.
    pub fn is_to_learn(&self) -> bool {
        self.state.lock().learned.is_none_or(|learned| learned.elapsed() > LEARN_AGAIN)
    }

    /// Takes note of the Sentinels that these answers tell of; forgets those that none tells of any more.
    pub fn learn(&self, answers: &[(Arc<Sentinel>, Answer)]) {
        let told: Vec<_> = answers.iter().filter_map(|(_, answer)| answer.others.as_deref()).collect();
        if told.is_empty() {
            return;
        }
        for (sentinel, answer) in answers {
            sentinel.set_id(own_id(answer, &told));
        }
        let mut state = self.state.lock();
        state.learned = Some(Instant::now());
        let (mut sentinels, before): (Vec<_>, Vec<_>) =
            state.sentinels.drain(..).partition(|sentinel| sentinel.is_configured);
        let configured: Vec<_> =
            sentinels.iter().map(|sentinel| (sentinel.id(), sentinel.address.to_string())).collect();
        for peer in unknown(&configured, &told) {
            let Ok(address) = self.announced.address(&peer.address.0, peer.address.1) else { continue };
            let known = before.iter().find(|it| it.address.to_string() == address.to_string());
            let sentinel = known.cloned().unwrap_or_else(|| {
                Arc::new(Sentinel::new(address, false, Arc::clone(&self.name), &self.settings))
            });
            sentinel.set_id(peer.id);
            sentinels.push(sentinel);
        }
        for gone in before {
            if state.closed || !sentinels.iter().any(|sentinel| Arc::ptr_eq(sentinel, &gone)) {
                gone.close();
            }
        }
        if state.closed {
            for sentinel in &sentinels {
                sentinel.close();
            }
        }
        state.sentinels = sentinels;
    }

    /// Closes the connections to all of them. Later questions make connections of their own.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.sentinels.iter().for_each(|sentinel| sentinel.close());
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, sentinel) in self.all().iter().filter(|sentinel| sentinel.is_configured).enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{}", sentinel.address)?;
        }
        Ok(())
    }
}

/// The id of the Sentinel with this answer. Before version 6.2 it is the one that the others tell of and it
/// does not.
fn own_id(answer: &Answer, told: &[&[Peer]]) -> Option<Arc<str>> {
    if answer.id.is_some() {
        return answer.id.clone();
    }
    let others = answer.others.as_ref()?;
    let mut missing: BTreeSet<_> = told.iter().flat_map(|peers| peers.iter()).map(|peer| &peer.id).collect();
    for peer in others {
        missing.remove(&peer.id);
    }
    if missing.len() == 1 { missing.pop_first()?.clone() } else { None }
}

/// The Sentinels that are not among the configured ones, each an id and an address. As many as there can be:
/// a configured one that has not told its id may be among them, under another address.
fn unknown(configured: &[(Option<Arc<str>>, String)], told: &[&[Peer]]) -> Vec<Peer> {
    let all: BTreeSet<_> = told.iter().flat_map(|peers| peers.iter()).map(|peer| &peer.address).collect();
    // Those that tell of the same others are all told of by each other; one that is alone is told of by none.
    let total = if told.len() > 1 { all.len() } else { all.len() + 1 };
    let room = total.min(MAX_SENTINELS).saturating_sub(configured.len());
    let mut unknown: Vec<Peer> = Vec::new();
    for peer in told.iter().flat_map(|peers| peers.iter()) {
        let (host, port) = &peer.address;
        let is_configured = configured.iter().any(|(id, address)| {
            (id.is_some() && *id == peer.id)
                || *address == format!("{host}:{port}")
                || *address == format!("[{host}]:{port}")
        });
        if !is_configured && !unknown.iter().any(|other| other.address == peer.address) {
            unknown.push(peer.clone());
        }
    }
    // Those that are down may have gone for good.
    unknown.sort_by_key(|peer| peer.is_down);
    unknown.truncate(room);
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, port: u16, is_down: bool) -> Peer {
        Peer { address: ("10.0.0.1".into(), port), id: Some(name.into()), is_down }
    }

    fn configured(id: Option<&str>, address: &str) -> (Option<Arc<str>>, String) {
        (id.map(Into::into), address.to_owned())
    }

    fn ports(peers: &[Peer]) -> Vec<u16> {
        peers.iter().map(|peer| peer.address.1).collect()
    }

    #[test]
    fn sentinels_are_told_apart_by_their_ids_and_addresses() {
        let (a, b, c) = (peer("a", 1, false), peer("b", 2, false), peer("c", 3, false));
        let told_by_a = [b.clone(), c.clone()];
        // One that is known by name: the others are new.
        let one = [configured(Some("a"), "a.test:26379")];
        assert_eq!(ports(&unknown(&one, &[&told_by_a])), [2, 3]);
        let all = [one[0].clone(), configured(Some("b"), "b.test:1"), configured(None, "10.0.0.1:3")];
        let told_by_b = [a.clone(), c.clone()];
        assert_eq!(ports(&unknown(&all, &[&told_by_a, &told_by_b])), [] as [u16; 0]);
        // A configured one that is away, and so has no id: it may be any of them.
        let down = peer("d", 4, true);
        let two = [one[0].clone(), configured(None, "away.test:26379")];
        assert_eq!(ports(&unknown(&two, &[&[down, b]])), [2], "rather one that is up");
    }

    #[test]
    fn at_most_nine_are_asked() {
        let many: Vec<_> = (1..30).map(|port| peer(&port.to_string(), port, port < 5)).collect();
        let found = unknown(&[configured(Some("a"), "a.test:26379")], &[&many]);
        assert_eq!(ports(&found), [5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn a_sentinel_that_does_not_tell_its_id_is_the_one_that_it_does_not_tell_of() {
        let (a, b, c) = (peer("a", 1, false), peer("b", 2, false), peer("c", 3, false));
        let told = [vec![b.clone(), c.clone()], vec![a.clone(), c], vec![a, b]];
        let slices: Vec<_> = told.iter().map(Vec::as_slice).collect();
        let id = |at: usize, slices: &[&[Peer]]| {
            own_id(&Answer { others: Some(told[at].clone()), ..Answer::default() }, slices)
        };
        assert_eq!(id(1, &slices).as_deref(), Some("b"));
        assert_eq!(id(0, &slices[..1]), None, "nothing tells of it");
        let named = Answer { id: Some("x".into()), ..Answer::default() };
        assert_eq!(own_id(&named, &slices).as_deref(), Some("x"));
    }
}
