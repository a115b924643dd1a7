//! What the server of a node can do. Asked before the first grant of each generation, and never assumed:
//! proxies and managed services lack commands, and users permissions.

use std::sync::atomic::{AtomicU64, Ordering};

use redis::Value;
use tokio::sync::Mutex;

use crate::backend::guarantees::Skew;
use crate::backend::redis::config::keys::Keys;
use crate::backend::redis::connection::shared::ExchangeError;
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::operation::Operation;
use crate::backend::redis::protocol::packer::Packer;
use crate::backend::redis::protocol::permissions;
use crate::backend::redis::protocol::replies::ScriptResult;
use crate::backend::redis::protocol::replies::acknowledgement::Acknowledgement;
use crate::backend::redis::protocol::replies::expected::ExpectedReply;
use crate::backend::redis::protocol::replies::proof::Proof;
use crate::backend::redis::protocol::scripts::{ACQUIRE, pack_probe, pack_rights};
use crate::backend::redis::protocol::values::{micros, text, texts};
use crate::error::{Error, Result};

/// What was found, as bits.
const SCRIPTS: u64 = 1;
const WAIT: u64 = 2;
const WAITAOF: u64 = 4;
const BITS: u32 = 3;

pub(super) struct Capabilities {
    context: NodeContext,
    /// A generation, and what its server can do. What it lacks is not remembered: it may be allowed or
    /// switched on at any time.
    found: AtomicU64,
    /// Held while asking, so that concurrent callers share the replies.
    asking: Mutex<()>,
}

impl Capabilities {
    pub fn new(context: NodeContext) -> Self {
        Self { context, found: AtomicU64::new(0), asking: Mutex::const_new(()) }
    }

    /// Fails if the server lacks what a grant with this proof needs. Asks it if that is not known.
    pub async fn check(&self, proof: Proof) -> Result<()> {
        if self.are_known(proof) {
            return Ok(());
        }
        Box::pin(self.ask(proof)).await
    }

    /// If a request failed because of what was found, it has changed: the next one asks again.
    pub fn reconsider(&self, error: &Error) {
        if is_forbidden(error) || matches!(error, Error::Unsupported(_)) {
            self.found.store(0, Ordering::Release);
        }
    }

    fn generation(&self) -> u64 {
        self.context.connector.route().generation()
    }

    fn are_known(&self, proof: Proof) -> bool {
        let needed = SCRIPTS | bit(proof);
        let found = self.found.load(Ordering::Acquire);
        found >> BITS == self.generation() && found & needed == needed
    }

    async fn ask(&self, proof: Proof) -> Result<()> {
        // All callers share the attempts to connect, so none waits for those of others. The connection may be
        // the first of the next generation.
        self.context.shared.get().await?;
        let _only_one = self.asking.lock().await;
        if self.are_known(proof) {
            return Ok(());
        }
        let generation = self.generation();
        let asked = 6 + usize::from(proof.is_needed());
        let keys = &self.context.settings.keys;
        let sent = self.context.clock.wall_micros();
        let exchange = self.context.shared.exchange(asked, |packer, out| pack(proof, keys, packer, out));
        let response = exchange.await.map_err(|error| self.context.query_failed(error))?;
        if let Some(broken) = response.broken {
            return Err(self.context.query_failed(ExchangeError::Broken(broken)));
        }
        let received = self.context.clock.wall_micros();
        let mut replies = response.replies.into_iter();
        // A user may not be allowed to ask for it.
        if let Some(time) = replies.next().and_then(micros)
            && self.generation() == generation
        {
            self.context.clocks.measured(generation, Skew::between(sent, time, received));
        }
        if self.judge(proof, replies)? {
            let found = self.found.load(Ordering::Acquire);
            let known = if found >> BITS == generation { found } else { generation << BITS };
            self.found.store(known | SCRIPTS | bit(proof), Ordering::Release);
        }
        Ok(())
    }

    /// Whether the server can do it. Not if it is busy, loading or the wrong one: then the request itself
    /// gets the reason.
    fn judge(&self, proof: Proof, mut replies: impl Iterator<Item = Value>) -> Result<bool> {
        let context = self.context.reply_context(Operation::Acquire).requiring(proof);
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let (by_text, probe, rights, loaded, info) = (next(), next(), next(), next(), next());
        for reply in [&by_text, &probe] {
            match context.script_result(reply) {
                ScriptResult::Refused(error @ Error::Unsupported(_)) => return Err(error),
                ScriptResult::Refused(error) if is_forbidden(&error) => return Err(error),
                _ => {}
            }
        }
        let missing = texts(rights);
        if !missing.is_empty() {
            return Err(context.forbidden_in_scripts(&missing));
        }
        let mut can = match context.script_result(&probe) {
            ScriptResult::Declined(_) => {
                return Err(context.unsupported("exact numbers in scripts, which tokens need", "0"));
            }
            ScriptResult::Failed(error) if lacks_command(&error) => {
                let said = error.cause().unwrap_or_default();
                return Err(context.unsupported("TIME in scripts, from which tokens come", said));
            }
            ScriptResult::Refused(_) | ScriptResult::WrongServer(_) | ScriptResult::Elsewhere(_) => false,
            ScriptResult::Done(_) | ScriptResult::NotLoaded(_) | ScriptResult::Failed(_) => true,
        };
        if let Value::BulkString(sha) = &loaded
            && *sha != ACQUIRE.sha().as_bytes()
        {
            return Err(context.unsupported("SCRIPT LOAD that keeps scripts as they are", "another SHA-1"));
        }
        if text(info).is_some_and(|info| info.lines().any(|line| line.trim_end() == "role:active-replica")) {
            return Err(context.two_primaries());
        }
        if proof.is_needed() {
            match context.acknowledgement(&next()) {
                Acknowledgement::Received(_) => {}
                Acknowledgement::Impossible(error) => return Err(error),
                Acknowledgement::Unknown(_) => can = false,
            }
        }
        Ok(can)
    }
}

fn is_forbidden(error: &Error) -> bool {
    error.cause().is_some_and(permissions::is_about)
}

/// Whether a script called a command that the server does not have.
fn lacks_command(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.to_ascii_lowercase().contains("unknown redis command"))
}

const fn bit(proof: Proof) -> u64 {
    match proof {
        Proof { fsync: true, .. } => WAITAOF,
        Proof { replicas: 0, .. } => 0,
        _ => WAIT,
    }
}

/// One round trip: the time, a script that is called in both ways, the permissions of those to come, one that
/// is as we know it, the role, and the proof.
fn pack(proof: Proof, keys: &Keys, packer: &mut Packer, out: &mut Vec<u8>) {
    packer.command(out, ExpectedReply::List, |cmd| {
        cmd.arg("TIME");
    });
    packer.by_text(true, |packer| pack_probe(packer, out));
    pack_probe(packer, out);
    packer.by_text(true, |packer| pack_rights(keys, packer, out));
    ACQUIRE.pack_load(packer, out);
    packer.command(out, ExpectedReply::Text, |cmd| {
        cmd.arg("INFO").arg("replication");
    });
    if proof.is_needed() {
        // For no replica, so that it does not wait for any.
        Proof { replicas: 0, ..proof }.pack(1, packer, out);
    }
}
