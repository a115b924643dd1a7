//! The Lua scripts, and how a call of one is packed. One call carries many requests: what a call costs by itself is more
//! than what a request adds to it.

use std::sync::LazyLock;

use redis::Cmd;

use crate::backend::contract::Request;
use crate::backend::redis::config::keys::{Keys, Part};
use crate::backend::waiter::Waiter;
use crate::lease::token::FENCE_TTL_MS;
use crate::lease::{Owner, Resources, Ttl};

/// The most requests in one call, and the most names of them together unless it is one request: so that the server does
/// nothing else for about a millisecond only.
pub(crate) const MAX_ITEMS: usize = 64;
const MAX_NAMES: usize = 128;

/// How many requests go into each call. `alone`: one.
pub(crate) fn cut<'a>(items: impl Iterator<Item = &'a Item>, alone: bool) -> Vec<usize> {
    let most = if alone { 1 } else { MAX_ITEMS };
    let (mut calls, mut names) = (Vec::new(), 0);
    for item in items {
        match calls.last_mut() {
            Some(size) if *size < most && names + item.names() <= MAX_NAMES => {
                *size += 1;
                names += item.names();
            }
            _ => {
                calls.push(1);
                names = item.names();
            }
        }
    }
    calls
}

/// A script and the name the server knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub body: &'static str,
    /// SHA-1 in hexadecimal.
    sha: String,
    takes: Takes,
}

/// What a script takes for its requests, beside their locks and owners.
#[derive(Debug, Clone, Copy, Default)]
struct Takes {
    fences: bool,
    lines: bool,
    /// How many numbers.
    numbers: usize,
    /// Whether requests may have somebody who waits.
    waiters: bool,
}

impl Script {
    fn new(body: &'static str, takes: Takes) -> Self {
        Self { body, sha: sha1_smol::Sha1::from(body).digest().to_string(), takes }
    }

    /// Appends the EVALSHA for these requests to `out`. Every key it touches is declared.
    pub fn pack<'a>(
        &self,
        keys: &Keys,
        items: impl Iterator<Item = &'a Item> + Clone,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) {
        let Takes { fences, lines, numbers, waiters } = self.takes;
        let parts = 1 + usize::from(fences) + usize::from(lines);
        packer.command(out, |cmd| {
            cmd.arg("EVALSHA").arg(&*self.sha).arg(parts * items.clone().map(Item::names).sum::<usize>());
            for item in items.clone() {
                add_keys(cmd, keys, &item.resources, Part::Lock);
                if fences {
                    add_keys(cmd, keys, &item.resources, Part::Fence);
                }
            }
            if lines {
                items.clone().for_each(|item| add_keys(cmd, keys, &item.resources, Part::Line));
            }
            // What requests in a row have in common goes before them, once: each argument costs the server more than what
            // the script does with it.
            let mut rest = items;
            while let Some(first) = rest.clone().next() {
                let alike = rest.clone().take_while(|item| item.is_like(first)).count();
                cmd.arg(alike).arg(first.names());
                for &number in &first.numbers[..numbers] {
                    cmd.arg(number);
                }
                if waiters {
                    cmd.arg(u8::from(first.waiter.is_some()));
                }
                for item in rest.by_ref().take(alike) {
                    cmd.arg(&item.owner.to_hex()[..]);
                    if let Some(waiter) = item.waiter.as_ref().filter(|_| waiters) {
                        cmd.arg(keys.waiter(waiter));
                    }
                }
            }
        });
    }

    /// Appends the EVALSHA for the locks and lines of these resources to `out`, with this argument, if it takes one.
    pub fn pack_lines<'a>(
        &self,
        keys: &Keys,
        resources: &(impl ExactSizeIterator<Item = &'a str> + Clone),
        argument: Option<&str>,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) {
        packer.command(out, |cmd| {
            cmd.arg("EVALSHA").arg(&*self.sha).arg(2 * resources.len());
            for part in [Part::Lock, Part::Line] {
                resources.clone().for_each(|resource| keys.add_to(cmd, resource, part));
            }
            cmd.arg(argument);
        });
    }

    /// Appends the SCRIPT LOAD to `out`.
    pub fn pack_load(&self, packer: &mut Packer, out: &mut Vec<u8>) {
        packer.command(out, |cmd| {
            cmd.arg("SCRIPT").arg("LOAD").arg(self.body);
        });
    }
}

/// A script with what scripts share.
macro_rules! with_line {
    ($file:literal) => {
        concat!(include_str!("lua/line.lua"), "\n", include_str!(concat!("lua/", $file)))
    };
}

pub(crate) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    let takes = Takes { fences: true, lines: true, numbers: 3, waiters: true };
    Script::new(with_line!("acquire.lua"), takes)
});
pub(crate) static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(include_str!("lua/extend.lua"), Takes { fences: true, numbers: 2, ..Takes::default() })
});
pub(crate) static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(with_line!("release.lua"), Takes { lines: true, ..Takes::default() }));
pub(crate) static INSPECT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/inspect.lua"), Takes::default()));
pub(crate) static FORCE: LazyLock<Script> =
    LazyLock::new(|| Script::new(with_line!("force.lua"), Takes::default()));
pub(crate) static JOIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(with_line!("join.lua"), Takes::default()));
pub(crate) static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(with_line!("leave.lua"), Takes::default()));
pub(crate) static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(with_line!("beat.lua"), Takes::default()));

/// Appends the EVALSHA of inspect.lua to `out`.
pub(crate) fn pack_inspect(keys: &Keys, resources: &Resources, packer: &mut Packer, out: &mut Vec<u8>) {
    packer.command(out, |cmd| {
        cmd.arg("EVALSHA").arg(&*INSPECT.sha).arg(resources.as_slice().len() * 2);
        add_keys(cmd, keys, resources, Part::Lock);
        add_keys(cmd, keys, resources, Part::Fence);
    });
}

fn add_keys(cmd: &mut Cmd, keys: &Keys, resources: &Resources, part: Part) {
    for name in resources.as_slice() {
        keys.add_to(cmd, name, part);
    }
}

/// Fills a buffer with commands; keeps the scratch space they are put together in.
#[derive(Default)]
pub(crate) struct Packer(Cmd);

impl Packer {
    /// Appends one command to `out`.
    pub fn command(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Cmd)) {
        self.0.clear();
        fill(&mut self.0);
        self.0.write_packed_command(out);
    }
}

/// One request, as the scripts take it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    resources: Resources,
    owner: Owner,
    numbers: [u64; 3],
    waiter: Option<Waiter>,
}

impl Item {
    pub fn acquire(request: &Request) -> Self {
        let Request { resources, owner, ttl, min_token, waiter, .. } = request;
        let numbers = [ttl.as_millis().into(), *min_token, fence_ms(*ttl)];
        Self { resources: resources.clone(), owner: *owner, numbers, waiter: waiter.clone() }
    }

    /// Whether they differ in names, owner and waiter alone.
    fn is_like(&self, other: &Self) -> bool {
        self.names() == other.names()
            && self.numbers == other.numbers
            && self.waiter.is_some() == other.waiter.is_some()
    }

    /// How many resources it names.
    pub fn names(&self) -> usize {
        self.resources.as_slice().len()
    }

    pub fn extend(resources: &Resources, owner: Owner, ttl: Ttl) -> Self {
        let numbers = [ttl.as_millis().into(), fence_ms(ttl), 0];
        Self { resources: resources.clone(), owner, numbers, waiter: None }
    }

    pub fn release(resources: &Resources, owner: Owner) -> Self {
        Self { resources: resources.clone(), owner, numbers: [0; 3], waiter: None }
    }
}

/// How long a fence is kept for a lease of this TTL, unless its token is ahead of the clock.
const fn fence_ms(ttl: Ttl) -> u64 {
    FENCE_TTL_MS + ttl.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::AckPolicy;

    #[test]
    fn every_script_says_in_its_first_lines_what_it_takes_and_answers() {
        let shared = include_str!("lua/line.lua").lines().count() + 1;
        for script in [&ACQUIRE, &EXTEND, &RELEASE, &INSPECT, &FORCE, &JOIN, &LEAVE, &BEAT] {
            let own = if script.body.contains("local function wake") { shared } else { 0 };
            let head = script.body.lines().skip(own).take_while(|line| line.starts_with("-- "));
            let head = head.collect::<Vec<_>>().join(" ");
            assert!(head.contains("KEYS ") && head.contains(" ⇒ "), "{head}");
        }
    }

    #[test]
    fn calls_are_bounded_by_requests_and_by_names() {
        let item = |names: usize| {
            let names = (0..names).map(|name| name.to_string()).collect();
            Item::release(&Resources::many(names).unwrap(), Owner::from_bytes([0; 16]))
        };
        let sizes = |names: &[usize], alone| {
            let items: Vec<_> = names.iter().map(|&names| item(names)).collect();
            cut(items.iter(), alone)
        };
        assert_eq!(sizes(&[1; 130], false), [64, 64, 2]);
        assert_eq!(sizes(&[60, 60, 60, 1_000, 1, 1], false), [2, 1, 1, 2]);
        assert_eq!(sizes(&[1, 1], true), [1, 1]);
        assert_eq!(sizes(&[], false), [0; 0]);
    }

    #[test]
    fn a_call_is_packed_as_the_server_reads_it() {
        let keys = Keys::new("p").unwrap();
        let item = |names: &[&str], owner: u8| {
            let resources = Resources::many(names.iter().map(ToString::to_string).collect()).unwrap();
            let (owner, ttl) = (Owner::from_bytes([owner; 16]), Ttl::from_millis(500).unwrap());
            Item::acquire(&Request {
                resources,
                owner,
                ttl,
                mode: crate::lease::Mode::Exclusive,
                min_token: 7,
                acks: AckPolicy::default(),
                waiter: None,
            })
        };
        let mut items =
            [item(&["a", "}b"], 0xab), item(&["c"], 0xcd), item(&["d"], 0xef), item(&["e"], 0x12)];
        let waiter = Waiter::new(true);
        items[3].waiter = Some(waiter.clone());
        let mut packed = Vec::new();
        ACQUIRE.pack(&keys, items.iter(), &mut Packer::default(), &mut packed);
        let text = String::from_utf8(packed).unwrap();
        let words: Vec<&str> =
            text.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).collect();
        let owners = ["ab", "cd", "ef", "12"].map(|digits| digits.repeat(16));
        let place = format!("{}:{}:f", keys.process(), waiter.number());
        #[rustfmt::skip]
        let expected = [
            "EVALSHA", ACQUIRE.sha.as_str(), "15",
            "p:{a}:lock", "p:x{7d62}:lock", "p:{a}:fence", "p:x{7d62}:fence",
            "p:{c}:lock", "p:{c}:fence", "p:{d}:lock", "p:{d}:fence", "p:{e}:lock", "p:{e}:fence",
            "p:{a}:line", "p:x{7d62}:line", "p:{c}:line", "p:{d}:line", "p:{e}:line",
            "1", "2", "500", "7", "604800500", "0", &owners[0],
            "2", "1", "500", "7", "604800500", "0", &owners[1], &owners[2],
            "1", "1", "500", "7", "604800500", "1", &owners[3], &place,
        ];
        assert_eq!(words, expected);
    }
}
