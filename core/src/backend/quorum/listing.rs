//! All locks: what is found on one node is asked of all, as one resource is. And who holds them.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::QuorumBackend;
use super::scans::QuorumListing;
use crate::backend::contract::Locks;
use crate::backend::redis::listing::{PAGE, PAGE_TIME};
use crate::error::Result;
use crate::lease::{Holder, Resources};

impl QuorumBackend {
    /// See [`LockBackend::next_page`](crate::backend::contract::LockBackend::next_page).
    pub(super) async fn next_locks(&self, listing: &mut QuorumListing) -> Result<Option<Locks>> {
        let began = Instant::now();
        while listing.found.is_empty() {
            self.check_open()?;
            if !listing.scan(&self.members).await? {
                return Ok(None);
            }
            if listing.found.is_empty() && began.elapsed() > PAGE_TIME {
                return Ok(Some(Vec::new()));
            }
        }
        let page = listing.found.len().min(PAGE);
        let names = listing.found.drain(..page).map(Resources::one).collect::<Result<Vec<_>>>()?;
        let infos = try_join_all(names.iter().map(|name| self.find_listed(name))).await?;
        let locks = names.iter().zip(infos).filter_map(|(name, info)| Some((name.first().into(), info?)));
        Ok(Some(locks.collect()))
    }

    /// Stores who a manager is on all nodes that answer, if they are a majority.
    pub(super) async fn write_holder(&self, id: &str, holder: &Holder, lasts: Duration) -> Result<()> {
        self.ask_all(|node| self.members.all()[node].voter.write_holder(id, holder, lasts)).await.map(drop)
    }

    /// Who a manager is: what most nodes say that know of it.
    pub(super) async fn read_holder(&self, id: &str) -> Option<Holder> {
        let answers = self.ask_all(|node| self.members.all()[node].voter.read_holder(id)).await.ok()?;
        most(answers.into_iter().flatten().collect())
    }
}

fn most(mut holders: Vec<Holder>) -> Option<Holder> {
    let count = |holder: &Holder| holders.iter().filter(|other| *other == holder).count();
    let at = (0..holders.len()).rev().max_by_key(|&at| count(&holders[at]))?;
    Some(holders.swap_remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_who_most_nodes_say_it_is() {
        let holder = |name: &str| Holder { name: name.into(), host: "h".into(), pid: 1, since_ms: 2 };
        assert_eq!(most(Vec::new()), None);
        assert_eq!(most(vec![holder("a")]), Some(holder("a")));
        assert_eq!(most(vec![holder("b"), holder("a"), holder("a")]), Some(holder("a")));
    }
}
