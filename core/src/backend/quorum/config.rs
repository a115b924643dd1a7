//! The options of a quorum, checked.

use std::sync::Arc;
use std::time::Duration;

use super::members::Members;
use crate::backend::redis;
use crate::backend::redis::voter::{Agreement, Voter};
use crate::error::{Error, Result};
use crate::lease::Ttl;
use crate::runtime::clock::Clock;

/// How far the tokens of a node may be behind its clock, and ahead of all that is known: SLACK and AHEAD of
/// `propose.lua`. A node that forgot its tokens refuses those of before only after this time.
const TOKEN_MEMORY: Duration = Duration::from_secs(2);

/// The longest TTL by default.
pub const DEFAULT_MAX_TTL_MS: u32 = 60_000;

/// The nodes, and what all clients of them must have in common.
pub struct Options {
    /// 3, 5 or 7 independent servers, each with a URL of its own.
    pub nodes: Vec<redis::Options>,
    /// The longest TTL of a lease, in milliseconds; the same for all clients.
    pub max_ttl_ms: u32,
    /// How long a node does not vote after a restart, in milliseconds: as long as what it may have forgotten
    /// can matter, unless it is for development.
    pub restart_delay_ms: Option<u32>,
}

/// A checked configuration.
pub struct Config {
    pub(super) members: Arc<Members>,
    pub(super) max_ttl: Ttl,
    /// Whether nodes that forgot what they granted vote too early.
    pub(super) forgets: bool,
}

impl Config {
    /// Checks the options; no I/O.
    pub fn new(options: Options, clock: &Clock) -> Result<Self> {
        let Options { nodes, max_ttl_ms, restart_delay_ms } = options;
        if nodes.len() < 3 || nodes.len() % 2 == 0 {
            return Err(Error::invalid(format!(
                "quorum.nodes must have 3, 5 or 7 nodes, got {}: an even number survives no more failures than \
                 the odd one below it, and votes can be split evenly",
                nodes.len()
            )));
        }
        let max_ttl = Ttl::from_millis(max_ttl_ms).map_err(|_| {
            Error::invalid(format!("quorum.maxTtlMs must be 10 to 86400000, got {max_ttl_ms}"))
        })?;
        let away = max_ttl.as_duration().max(TOKEN_MEMORY);
        let restart_delay = restart_delay_ms.map_or(away, |ms| Duration::from_millis(ms.into()));
        let configs = nodes.into_iter().map(redis::Config::new).collect::<Result<Vec<_>>>()?;
        let note = |addresses: &[String]| {
            let mut sorted = addresses.to_vec();
            sorted.sort_unstable();
            format!("nodes {}; maxTtlMs {max_ttl_ms}", sorted.join(" "))
        };
        let addresses = configs.iter().map(redis::Config::fixed_address).collect::<Result<Vec<_>>>()?;
        if let Some(twice) = addresses.iter().enumerate().find(|(at, it)| addresses[..*at].contains(it)) {
            return Err(Error::invalid(format!(
                "quorum.nodes has {} twice: its vote would count twice",
                twice.1
            )));
        }
        let agreement = Agreement { note: note(&addresses).into(), away, restart_delay };
        let voters = configs
            .into_iter()
            .map(|config| Voter::new(config, agreement.clone(), clock.clone()))
            .collect::<Result<Vec<_>>>()?;
        let members = Arc::new(Members::new(voters, clock.clone()));
        Ok(Self { members, max_ttl, forgets: restart_delay < away })
    }
}
