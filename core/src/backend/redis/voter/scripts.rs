//! The scripts by which a node votes, and how a call is packed. Each run of a server has scripts of its own:
//! their text begins with its run id, so that what was sent before a restart is not executed after it, by
//! whatever way it was kept.

use crate::backend::redis::config::keys::{KeyKind, Keys};
use crate::backend::redis::protocol::lease_args::fence_ms;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::replies::expected::{ExpectedReply, ScriptReply};
use crate::backend::redis::protocol::scripts::add_keys;
use crate::backend::waiter::Waiter;
use crate::lease::{Owner, Resources, Ttl};

const PROPOSE: &str =
    concat!(include_str!("../protocol/lua/lib/wait_queue.lua"), "\n", include_str!("lua/propose.lua"));
const RENEW: &str = include_str!("lua/renew.lua");
const AGREE: &str = include_str!("lua/agree.lua");

/// The numbers that propose.lua returns for one proposal.
pub(crate) const NUMBERS_A_PROPOSAL: usize = 3;

/// A node is asked to accept this owner with this token.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    /// The connection for which the node was found to vote: it is not sent on another one.
    pub connection: u64,
    pub resources: Resources,
    pub owner: Owner,
    pub ttl: Ttl,
    pub token: u64,
    /// The highest token that a node told, or that the caller must be above.
    pub known: u64,
    /// Who is queued at this node if it is not granted, and at which place, if others decide about that.
    pub waiter: Option<(Waiter, Option<u64>)>,
}

/// A node is asked to extend a lease.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    pub resources: Resources,
    pub owner: Owner,
    pub ttl: Ttl,
    pub token: u64,
    /// Whether the node takes it if it has forgotten it, or never had it, and the connection by which it said
    /// so: it is not sent on another one. That is no vote.
    pub heal: Option<u64>,
}

/// The scripts of one run of a server.
#[derive(Debug)]
pub(crate) struct VoteScripts {
    propose: RunScript,
    renew: RunScript,
}

#[derive(Debug)]
struct RunScript {
    body: String,
    sha: String,
}

impl VoteScripts {
    /// `None`: the server does not say which run it is.
    pub fn new(run_id: Option<&str>) -> Self {
        let script = |text: &str| {
            let body = format!("-- run {}\n{text}", run_id.unwrap_or("unknown"));
            RunScript { sha: sha1_smol::Sha1::from(&body).digest().to_string(), body }
        };
        Self { propose: script(PROPOSE), renew: script(RENEW) }
    }

    /// Appends one SCRIPT LOAD for each script to `out`; returns how many.
    pub fn pack_load(&self, packer: &mut Packer, out: &mut Vec<u8>) -> usize {
        let scripts = [&self.propose, &self.renew];
        for script in scripts {
            packer.command(out, ExpectedReply::Text, |cmd| {
                cmd.arg("SCRIPT").arg("LOAD").arg(&script.body);
            });
        }
        scripts.len()
    }

    /// Appends the EVALSHA of propose.lua for these proposals to `out`.
    pub fn pack_proposals<'a>(
        &self,
        keys: &Keys,
        proposals: impl ExactSizeIterator<Item = &'a Proposal> + Clone,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) {
        let shape = ScriptReply::Numbers(1 + NUMBERS_A_PROPOSAL * proposals.len());
        packer.script_call(out, shape, |cmd, echo| {
            let all: usize = proposals.clone().map(|proposal| names(&proposal.resources)).sum();
            cmd.arg("EVALSHA").arg(&*self.propose.sha).arg(3 * all);
            for proposal in proposals.clone() {
                add_keys(cmd, keys, &proposal.resources, KeyKind::Lock);
                add_keys(cmd, keys, &proposal.resources, KeyKind::Fence);
            }
            for proposal in proposals.clone() {
                add_keys(cmd, keys, &proposal.resources, KeyKind::Queue);
            }
            cmd.arg(echo);
            for Proposal { resources, owner, ttl, token, known, waiter, .. } in proposals {
                cmd.arg(names(resources)).arg(&owner.to_hex()[..]).arg(ttl.as_millis());
                cmd.arg(*token).arg(*known).arg(fence_ms(*ttl));
                match waiter {
                    Some((waiter, place)) => {
                        cmd.arg(keys.waiter(waiter));
                        match place {
                            Some(place) => cmd.arg(*place),
                            None => cmd.arg(""),
                        };
                    }
                    None => {
                        cmd.arg("").arg("");
                    }
                }
            }
        });
    }

    /// Appends the EVALSHA of renew.lua for these leases to `out`.
    pub fn pack_renewals<'a>(
        &self,
        keys: &Keys,
        renewals: impl ExactSizeIterator<Item = &'a Renewal> + Clone,
        packer: &mut Packer,
        out: &mut Vec<u8>,
    ) {
        let shape = ScriptReply::Numbers(1 + renewals.len());
        packer.script_call(out, shape, |cmd, echo| {
            let all: usize = renewals.clone().map(|renewal| names(&renewal.resources)).sum();
            cmd.arg("EVALSHA").arg(&*self.renew.sha).arg(2 * all);
            for renewal in renewals.clone() {
                add_keys(cmd, keys, &renewal.resources, KeyKind::Lock);
                add_keys(cmd, keys, &renewal.resources, KeyKind::Fence);
            }
            cmd.arg(echo);
            for Renewal { resources, owner, ttl, token, heal } in renewals {
                cmd.arg(names(resources)).arg(&owner.to_hex()[..]).arg(ttl.as_millis());
                cmd.arg(*token).arg(fence_ms(*ttl)).arg(u8::from(heal.is_some()));
            }
        });
    }
}

/// Appends the EVAL of agree.lua to `out`: rare, so it is not loaded.
pub(crate) fn pack_agreement(key: &str, note: &str, ttl_ms: u64, packer: &mut Packer, out: &mut Vec<u8>) {
    packer.script_call(out, ScriptReply::Record, |cmd, echo| {
        cmd.arg("EVAL").arg(AGREE).arg(1).arg(key).arg(echo).arg(note).arg(ttl_ms);
    });
}

fn names(resources: &Resources) -> usize {
    resources.as_slice().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_of_a_server_has_scripts_of_its_own() {
        let [first, again, unknown] = [Some("a1"), Some("a1"), None].map(VoteScripts::new);
        assert_eq!(first.propose.sha, again.propose.sha);
        assert_ne!(first.propose.sha, unknown.propose.sha);
        assert!(first.renew.body.starts_with("-- run a1\n-- KEYS "));
    }
}
