//! The Lua scripts, and how a call of one is packed.

use std::sync::LazyLock;

use redis::Cmd;

use super::keys::{Keys, Part};
use crate::lease::{Owner, Resources, Ttl};
use crate::token::FENCE_TTL_MS;

/// A script and the name the server knows it by.
#[derive(Debug)]
pub(super) struct Script {
    pub body: &'static str,
    /// SHA-1 in hexadecimal.
    sha: String,
}

impl Script {
    fn new(body: &'static str) -> Self {
        Self { body, sha: sha1_smol::Sha1::from(body).digest().to_string() }
    }
}

pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acquire.lua")));
pub(super) static EXTEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("extend.lua")));
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));
static INSPECT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("inspect.lua")));

/// Fills a buffer with commands; keeps the scratch space they are put together in.
#[derive(Default)]
pub(super) struct Packer(Cmd);

impl Packer {
    /// Appends one command to `out`.
    pub fn command(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Cmd)) {
        self.0.clear();
        fill(&mut self.0);
        self.0.write_packed_command(out);
    }
}

/// One run of a script. Every key it touches is declared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub script: &'static Script,
    keys: &'a Keys,
    resources: &'a Resources,
    fences: bool,
    owner: Option<Owner>,
    numbers: [u64; 3],
    /// How many of `numbers` there are.
    count: usize,
}

impl<'a> Call<'a> {
    pub fn acquire(keys: &'a Keys, resources: &'a Resources, owner: Owner, ttl: Ttl, min_token: u64) -> Self {
        let numbers = [ttl.as_millis().into(), min_token, fence_ms(ttl)];
        Self { script: &ACQUIRE, keys, resources, fences: true, owner: Some(owner), numbers, count: 3 }
    }

    pub fn extend(keys: &'a Keys, resources: &'a Resources, owner: Owner, ttl: Ttl) -> Self {
        let numbers = [ttl.as_millis().into(), fence_ms(ttl), 0];
        Self { script: &EXTEND, keys, resources, fences: true, owner: Some(owner), numbers, count: 2 }
    }

    pub fn release(keys: &'a Keys, resources: &'a Resources, owner: Owner) -> Self {
        let (fences, owner) = (false, Some(owner));
        Self { script: &RELEASE, keys, resources, fences, owner, numbers: [0; 3], count: 0 }
    }

    pub fn inspect(keys: &'a Keys, resources: &'a Resources) -> Self {
        let (fences, owner) = (true, None);
        Self { script: &INSPECT, keys, resources, fences, owner, numbers: [0; 3], count: 0 }
    }

    /// Appends the EVALSHA to `out`.
    pub fn pack(&self, packer: &mut Packer, out: &mut Vec<u8>) {
        let names = self.resources.as_slice();
        packer.command(out, |cmd| {
            let keys = if self.fences { names.len() * 2 } else { names.len() };
            cmd.arg("EVALSHA").arg(&*self.script.sha).arg(keys);
            for name in names {
                self.keys.add_to(cmd, name, Part::Lock);
            }
            for name in names.iter().filter(|_| self.fences) {
                self.keys.add_to(cmd, name, Part::Fence);
            }
            if let Some(owner) = self.owner {
                cmd.arg(&owner.to_hex()[..]);
            }
            for &number in &self.numbers[..self.count] {
                cmd.arg(number);
            }
        });
    }
}

/// How long a fence is kept for a lease of this TTL, unless its token is ahead of the clock.
const fn fence_ms(ttl: Ttl) -> u64 {
    FENCE_TTL_MS + ttl.as_millis() as u64
}

/// Appends the SCRIPT LOAD to `out`.
pub(super) fn pack_load(script: &Script, packer: &mut Packer, out: &mut Vec<u8>) {
    packer.command(out, |cmd| {
        cmd.arg("SCRIPT").arg("LOAD").arg(script.body);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_says_in_its_first_line_what_it_takes_and_answers() {
        for script in [&ACQUIRE, &EXTEND, &RELEASE, &INSPECT] {
            let head = script.body.lines().next().unwrap();
            assert!(head.starts_with("-- KEYS ") && head.contains(" ⇒ "), "{head}");
        }
    }

    #[test]
    fn a_call_is_packed_as_the_server_reads_it() {
        let keys = Keys::new("p").unwrap();
        let resources = Resources::many(vec!["a".into(), "}b".into()]).unwrap();
        let ttl = Ttl::from_millis(500).unwrap();
        let call = Call::acquire(&keys, &resources, Owner::from_bytes([0xab; 16]), ttl, 7);
        let mut packed = Vec::new();
        call.pack(&mut Packer::default(), &mut packed);
        let text = String::from_utf8(packed).unwrap();
        let words: Vec<&str> =
            text.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).collect();
        let owner = "ab".repeat(16);
        let expected = [
            "EVALSHA",
            ACQUIRE.sha.as_str(),
            "4",
            "p:{a}:lock",
            "p:x{7d62}:lock",
            "p:{a}:fence",
            "p:x{7d62}:fence",
            owner.as_str(),
            "500",
            "7",
            "604800500",
        ];
        assert_eq!(words, expected);
    }
}
