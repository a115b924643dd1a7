//! Finding the locks of a quorum: a lock that a majority has is on at least one node of each majority, so the
//! nodes of one are scanned to their ends.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::members::Members;
use crate::backend::redis::voter::Scan;
use crate::error::{Error, Result};
use crate::runtime::seen_names::SeenNames;

/// How long the others may still take when a majority has made a step. Then they are left out: a node that
/// hangs must not delay each step.
const LATE: Duration = Duration::from_millis(500);

/// How long the majority may take at most. Each step has shorter limits of its own.
const MAJORITY: Duration = Duration::from_secs(3_600);

/// The scan of a node; an error: it failed.
type NodeScan = std::result::Result<Scan, String>;

/// A listing that is under way.
#[derive(Debug)]
pub struct QuorumListing {
    /// Of each node.
    scans: Vec<NodeScan>,
    seen: SeenNames,
    /// Those that are to be asked for.
    pub(super) found: VecDeque<String>,
}

impl QuorumListing {
    pub(super) fn new(members: &Members, prefix: &str) -> Self {
        let scans = members.all().iter().map(|member| Ok(member.voter.new_scan(prefix))).collect();
        Self { scans, seen: SeenNames::default(), found: VecDeque::new() }
    }

    /// Scans all nodes a little further. `false`: all were scanned that can be.
    pub(super) async fn scan(&mut self, members: &Members) -> Result<bool> {
        members.assembled().await?;
        let Self { scans, seen, found } = self;
        // Why each scan ends early.
        let is_unfinished = |scan: &NodeScan| scan.as_ref().is_ok_and(|scan| !scan.is_done());
        let silent = |scan| is_unfinished(scan).then(|| "no reply in time".to_owned());
        let mut failed: Vec<_> = scans.iter().map(silent).collect();
        let mut going_on = scans.iter().filter(|scan| scan.as_ref().is_ok_and(Scan::is_done)).count();
        let unfinished = scans.iter_mut().enumerate().filter_map(|(node, scan)| {
            let scan = scan.as_mut().ok().filter(|scan| !scan.is_done())?;
            Some(async move { (node, members.all()[node].voter.scan(scan).await) })
        });
        let mut steps: FuturesUnordered<_> = unfinished.collect();
        let limit = |going_on| if going_on < members.need() { MAJORITY } else { LATE };
        let mut due = Instant::now() + limit(going_on);
        while let Ok(Some((node, step))) = timeout_at(due, steps.next()).await {
            match step {
                Ok(names) => {
                    found.extend(names.into_iter().filter(|name| seen.is_new(name)));
                    failed[node] = None;
                    going_on += 1;
                }
                Err(error) => failed[node] = Some(members.all()[node].reason(&error)),
            }
            due = due.min(Instant::now() + limit(going_on));
        }
        drop(steps);
        for ((scan, why), member) in scans.iter_mut().zip(failed).zip(members.all()) {
            if let Some(why) = why {
                *scan = Err(format!("{}: {why}", member.address));
            }
        }
        let (need, left) = (members.need(), scans.iter().filter(|scan| scan.is_ok()).count());
        if left < need {
            let reasons: Vec<_> = scans.iter().filter_map(|scan| scan.as_ref().err().cloned()).collect();
            return Err(Error::unavailable(format!(
                "{left} of the {need} nodes of the quorum that must be scanned can be: {}",
                reasons.join("; ")
            )));
        }
        let is_done = scans.iter().all(|scan| scan.as_ref().map_or(true, Scan::is_done));
        Ok(!is_done || !found.is_empty())
    }
}
