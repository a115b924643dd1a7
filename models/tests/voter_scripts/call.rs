//! The calls to a node, as the product sends them.

use fencelock_models::quorum::node::{Extension, Proposal};
use redis::{Cmd, Pipeline};

use crate::expected::{Proposed, Renewed};
use crate::operation::{NAMES, OWNERS};
use crate::scripts::{Script, Scripts};

/// What every reply ends with.
pub const ECHO: u64 = 7;

/// A call as it is sent, and what its reply means.
#[derive(Debug)]
pub enum Call {
    Propose(Vec<Proposed>),
    Renew(Vec<Renewed>),
    Release(Vec<(u64, Vec<usize>)>),
    ForceRelease(usize),
    Agree(u8, u64),
}

impl Call {
    pub fn command(&self, scripts: &Scripts) -> Cmd {
        let script = match self {
            Self::Propose(_) => Script::Propose,
            Self::Renew(_) => Script::Renew,
            Self::Release(_) => Script::Release,
            Self::ForceRelease(_) => Script::ForceRelease,
            Self::Agree(..) => Script::Agree,
        };
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(scripts.sha(script));
        match self {
            Self::Propose(all) => {
                let names: usize = all.iter().map(|one| one.names.len()).sum();
                cmd.arg(3 * names);
                for Proposed { names, .. } in all {
                    keys(&mut cmd, names, &["lock", "fence"]);
                }
                for one in all {
                    keys(&mut cmd, &one.names, &["queue"]);
                }
                cmd.arg(ECHO);
                for Proposed { names, proposal, waiter, fence_us } in all {
                    let Proposal { owner, ttl, token, known } = proposal;
                    cmd.arg(names.len()).arg(*owner).arg(ttl / 1_000).arg(*token).arg(*known);
                    cmd.arg(fence_us / 1_000);
                    let (waiter, place) = waiter.clone().unwrap_or_default();
                    cmd.arg(waiter).arg(place.map_or_else(String::new, |place| place.to_string()));
                }
            }
            Self::Renew(all) => {
                let names: usize = all.iter().map(|one| one.names.len()).sum();
                cmd.arg(2 * names);
                for one in all {
                    keys(&mut cmd, &one.names, &["lock", "fence"]);
                }
                cmd.arg(ECHO);
                for Renewed { names, extension, fence_us } in all {
                    let Extension { owner, ttl, token, heal } = extension;
                    cmd.arg(names.len()).arg(*owner).arg(ttl / 1_000).arg(*token).arg(fence_us / 1_000);
                    cmd.arg(u8::from(*heal));
                }
            }
            Self::Release(leases) => {
                let names: usize = leases.iter().map(|(_, names)| names.len()).sum();
                cmd.arg(2 * names);
                for (_, names) in leases {
                    keys(&mut cmd, names, &["lock"]);
                }
                for (_, names) in leases {
                    keys(&mut cmd, names, &["queue"]);
                }
                cmd.arg(ECHO);
                for (owner, names) in leases {
                    cmd.arg(1).arg(names.len()).arg(*owner);
                }
            }
            Self::ForceRelease(name) => {
                cmd.arg(2);
                keys(&mut cmd, &[*name], &["lock", "queue"]);
                cmd.arg(ECHO);
            }
            Self::Agree(client, ttl_ms) => {
                cmd.arg(1).arg("q:quorum").arg(ECHO).arg(*client).arg(*ttl_ms);
            }
        }
        cmd
    }
}

fn keys(cmd: &mut Cmd, names: &[usize], kinds: &[&str]) {
    for kind in kinds {
        for &name in names {
            cmd.arg(key(name, kind));
        }
    }
}

/// Appends what tells all that a node has stored.
pub fn read(pipeline: &mut Pipeline) {
    for name in 0..NAMES {
        for kind in ["lock", "fence"] {
            pipeline.cmd("GET").arg(key(name, kind)).cmd("PTTL").arg(key(name, kind));
        }
        let fair = ["100000000000000", "(4000000000000000", "WITHSCORES"];
        pipeline.cmd("ZRANGEBYSCORE").arg(key(name, "queue")).arg(&fair);
    }
}

/// The channels of those who wait.
pub fn channels() -> Vec<String> {
    (1..=OWNERS).map(|owner| format!("q:wake:{}", process(owner))).collect()
}

/// The process of an owner.
pub fn process(owner: u64) -> String {
    format!("{owner:032}")
}

pub fn key(name: usize, kind: &str) -> String {
    format!("q:{{n{name}}}:{kind}")
}
