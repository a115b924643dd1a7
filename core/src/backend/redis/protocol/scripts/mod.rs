//! The Lua scripts, and how a call is packed. One call carries many leases: the cost of a call itself is
//! larger than what a lease adds to it.

use std::sync::LazyLock;

use redis::Cmd;

use super::lease_args::{LeaseArgs, Rest};
use super::packer::Packer;
use super::replies::expected::{ExpectedReply, ScriptReply};
use crate::backend::redis::config::keys::{KeyKind, Keys};
use crate::lease::{Owner, Resources};

/// A script, and the hash by which the server knows it.
#[derive(Debug)]
pub(crate) struct Script {
    pub body: &'static str,
    /// SHA-1 in hexadecimal.
    sha: String,
    params: ScriptParams,
}

/// What a script takes for each lease in addition to its locks and owner.
#[derive(Debug, Clone, Copy, Default)]
struct ScriptParams {
    fences: bool,
    queues: bool,
    /// How many numbers.
    numbers: usize,
    then: AfterOwner,
}

/// What follows the owner of each lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum AfterOwner {
    #[default]
    Nothing,
    /// Its waiter, if it has one.
    Waiter,
    /// The owner from whom it is taken over.
    OldOwner,
}

impl Script {
    fn new(body: &'static str, params: ScriptParams) -> Self {
        Self { body, sha: sha1_smol::Sha1::from(body).digest().to_string(), params }
    }

    /// What the server calls it.
    pub fn sha(&self) -> &str {
        &self.sha
    }

    /// Appends the call for these leases to `out`. Every key that the script touches is declared.
    pub fn pack<'a>(
        &self,
        keys: &Keys,
        leases: impl Iterator<Item = &'a LeaseArgs> + Clone,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) {
        let ScriptParams { fences, queues, numbers, then } = self.params;
        let waiters = then == AfterOwner::Waiter;
        let kinds = 1 + usize::from(fences) + usize::from(queues);
        let shape = ScriptReply::Numbers(leases.clone().count());
        self.call(packer, out, shape, |cmd, echo| {
            let names = leases.clone().map(LeaseArgs::names).sum::<usize>();
            cmd.arg(kinds * names);
            for lease in leases.clone() {
                add_keys(cmd, keys, &lease.resources, KeyKind::Lock);
                if fences {
                    add_keys(cmd, keys, &lease.resources, KeyKind::Fence);
                }
            }
            if queues {
                leases.clone().for_each(|lease| add_keys(cmd, keys, &lease.resources, KeyKind::Queue));
            }
            cmd.arg(echo);
            // What consecutive leases have in common is passed once, before them: an argument costs the
            // server more than what the script does with it.
            let mut rest = leases;
            while let Some(first) = rest.clone().next() {
                let alike = rest.clone().take_while(|lease| lease.is_like(first)).count();
                cmd.arg(alike).arg(first.names());
                for &number in &first.numbers[..numbers] {
                    cmd.arg(number);
                }
                if waiters {
                    cmd.arg(u8::from(first.waiter.is_some()));
                }
                for lease in rest.by_ref().take(alike) {
                    cmd.arg(&lease.owner.to_hex()[..]);
                    if let Some(waiter) = lease.waiter.as_ref().filter(|_| waiters) {
                        cmd.arg(keys.waiter(waiter));
                    }
                    if let Some(from) = lease.from.as_ref().filter(|_| then == AfterOwner::OldOwner) {
                        cmd.arg(&from.to_hex()[..]);
                    }
                }
            }
        });
    }

    /// Appends the call for the locks and wait queues of these resources to `out`, with this argument, if
    /// any.
    pub fn pack_queues<'a>(
        &self,
        keys: &Keys,
        resources: &(impl ExactSizeIterator<Item = &'a str> + Clone),
        argument: Option<&str>,
        shape: ScriptReply,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) {
        self.call(packer, out, shape, |cmd, echo| {
            cmd.arg(2 * resources.len());
            for kind in [KeyKind::Lock, KeyKind::Queue] {
                resources.clone().for_each(|resource| keys.add_to(cmd, resource, kind));
            }
            cmd.arg(echo).arg(argument);
        });
    }

    /// Appends one call to `out`; `fill` adds the number of its keys, and what follows.
    pub(super) fn call(
        &self,
        packer: &mut Packer,
        out: &mut Vec<u8>,
        shape: ScriptReply,
        fill: impl FnOnce(&mut Cmd, i64),
    ) {
        let by_text = packer.is_by_text();
        packer.script_call(out, shape, |cmd, echo| {
            if by_text {
                cmd.arg("EVAL").arg(self.body);
            } else {
                cmd.arg("EVALSHA").arg(&*self.sha);
            }
            fill(cmd, echo);
        });
    }

    /// Appends the SCRIPT LOAD to `out`: then the server keeps the script even if it runs many others by
    /// their text. A user may lack the permission.
    pub fn pack_load(&self, packer: &mut Packer, out: &mut Vec<u8>) {
        packer.command(out, ExpectedReply::Text, |cmd| {
            cmd.arg("SCRIPT").arg("LOAD").arg(self.body);
        });
    }
}

/// These files of `lua/`, one after the other.
macro_rules! lua {
    ($($file:literal),+) => { concat!($(include_str!(concat!("../lua/", $file)), "\n"),+) };
}

pub(crate) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    let params = ScriptParams { fences: true, queues: true, numbers: 3, then: AfterOwner::Waiter };
    Script::new(
        lua!("acquire/begin.lua", "acquire/usual.lua", "lib/wait_queue.lua", "acquire/rest.lua"),
        params,
    )
});
pub(crate) static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    let params = ScriptParams { fences: true, numbers: 2, ..ScriptParams::default() };
    Script::new(lua!("extend.lua"), params)
});
pub(crate) static ADOPT: LazyLock<Script> = LazyLock::new(|| {
    let params = ScriptParams { fences: true, queues: false, numbers: 3, then: AfterOwner::OldOwner };
    Script::new(lua!("handing_over/adopt.lua"), params)
});
pub(crate) static GIVE_BACK: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("handing_over/give_back.lua"), ScriptParams::default()));
pub(crate) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        lua!("release/usual.lua", "lib/wait_queue.lua", "release/rest.lua"),
        ScriptParams { queues: true, ..ScriptParams::default() },
    )
});
pub(crate) static LEAVE_REST: LazyLock<Script> = LazyLock::new(|| {
    let params = ScriptParams { queues: true, numbers: 1, ..ScriptParams::default() };
    Script::new(lua!("lib/wait_queue.lua", "leave_rest.lua"), params)
});
pub(crate) static HELD: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("held.lua"), ScriptParams::default()));
pub(crate) static INSPECT: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("lib/count_waiters.lua", "inspect.lua"), ScriptParams::default()));
pub(crate) static COUNT_WAITERS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(lua!("lib/count_waiters.lua", "count_waiters.lua"), ScriptParams::default())
});
pub(crate) static FORCE_RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("lib/wait_queue.lua", "force_release.lua"), ScriptParams::default()));
pub(crate) static DELETE_LOCK: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("delete_lock.lua"), ScriptParams::default()));
pub(crate) static READ_KEY: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("read_key.lua"), ScriptParams::default()));
pub(crate) static JOIN_QUEUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(lua!("lib/wait_queue.lua", "wait_queue/join_queue.lua"), ScriptParams::default())
});
pub(crate) static LEAVE_QUEUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(lua!("lib/wait_queue.lua", "wait_queue/leave_queue.lua"), ScriptParams::default())
});
pub(crate) static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(lua!("lib/wait_queue.lua", "wait_queue/heartbeat.lua"), ScriptParams::default())
});

pub(crate) static CAN_PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("probes/can_publish.lua"), ScriptParams::default()));

pub(crate) static RIGHTS: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("probes/rights.lua"), ScriptParams::default()));

pub(crate) static PROBE: LazyLock<Script> =
    LazyLock::new(|| Script::new(lua!("probes/probe.lua"), ScriptParams::default()));

/// Appends the call of `probe.lua` to `out`.
pub(crate) fn pack_probe(packer: &mut Packer, out: &mut Vec<u8>) {
    PROBE.call(packer, out, ScriptReply::Number, |cmd, echo| {
        cmd.arg(0).arg(echo);
    });
}

/// Appends the call of `rights.lua` to `out`.
pub(crate) fn pack_rights(keys: &Keys, packer: &mut Packer, out: &mut Vec<u8>) {
    RIGHTS.call(packer, out, ScriptReply::Record, |cmd, echo| {
        cmd.arg(0).arg(echo);
        keys.add_to(cmd, "rights", KeyKind::Lock);
    });
}

/// Appends the call of `can_publish.lua` to `out`.
pub(crate) fn pack_can_publish(channel: &str, packer: &mut Packer, out: &mut Vec<u8>) {
    CAN_PUBLISH.call(packer, out, ScriptReply::Number, |cmd, echo| {
        cmd.arg(0).arg(echo).arg(channel);
    });
}

/// Appends the call of `delete_lock.lua` to `out`. No owner: any. `rest`: what stays of its minimum.
pub(crate) fn pack_delete_lock(
    keys: &Keys,
    resource: &str,
    owner: Option<Owner>,
    rest: Option<Rest>,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) {
    DELETE_LOCK.call(packer, out, ScriptReply::Number, |cmd, echo| {
        cmd.arg(1);
        keys.add_to(cmd, resource, KeyKind::Lock);
        let owner = owner.map(|owner| owner.to_string()).unwrap_or_default();
        cmd.arg(echo).arg(owner).arg(rest.map_or(0, Rest::as_millis));
    });
}

/// Appends the call of `give_back.lua` to `out`: the locks that are the owner's become those of `to`.
pub(crate) fn pack_give_back(
    keys: &Keys,
    resources: &Resources,
    (owner, to): (Owner, Owner),
    packer: &mut Packer,
    out: &mut Vec<u8>,
) {
    GIVE_BACK.call(packer, out, ScriptReply::Number, |cmd, echo| {
        cmd.arg(resources.as_slice().len());
        add_keys(cmd, keys, resources, KeyKind::Lock);
        cmd.arg(echo).arg(&owner.to_hex()[..]).arg(&to.to_hex()[..]);
    });
}

/// Appends the call of `read_key.lua` to `out`.
pub(crate) fn pack_read_key(
    keys: &Keys,
    resource: &str,
    kind: KeyKind,
    packer: &mut Packer,
    out: &mut Vec<u8>,
) {
    READ_KEY.call(packer, out, ScriptReply::Record, |cmd, echo| {
        cmd.arg(1);
        keys.add_to(cmd, resource, kind);
        cmd.arg(echo);
    });
}

/// Appends an ASKING to `out`: the next command is for a slot that is moving to this node.
pub(crate) fn pack_asking(packer: &mut Packer, out: &mut Vec<u8>) {
    packer.command(out, ExpectedReply::Text, |cmd| {
        cmd.arg("ASKING");
    });
}

/// Adds one kind of key of these resources as the command's next arguments.
pub(crate) fn add_keys(cmd: &mut Cmd, keys: &Keys, resources: &Resources, kind: KeyKind) {
    for name in resources.as_slice() {
        keys.add_to(cmd, name, kind);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod usual_cases;
