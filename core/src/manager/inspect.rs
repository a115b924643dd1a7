//! Who holds what: one resource, or all of them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{Manager, unless_closed};
use crate::backend;
use crate::backend::contract::{Info, LockBackend};
use crate::error::Result;
use crate::lease::{Holder, HolderId, Owner, Strategy};

/// The most holders that a listing remembers.
const MAX_HOLDERS: usize = 1_024;

/// A resource that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub resource: Arc<str>,
    /// Its lease.
    pub info: Info,
    /// Who has it; `None` if that is unknown.
    pub holder: Option<Holder>,
}

/// A listing that is under way. Holds nothing open.
#[derive(Debug)]
pub struct Listing {
    strategy: Strategy,
    /// Locked for one page. `None`: it has ended.
    progress: tokio::sync::Mutex<Option<Progress>>,
}

#[derive(Debug)]
struct Progress {
    state: backend::Listing,
    /// Those that were looked up.
    holders: HashMap<HolderId, Option<Holder>>,
}

impl Manager {
    /// Who holds a resource.
    pub async fn inspect(&self, strategy: Strategy, resource: &str) -> Result<Option<Found>> {
        let backend = self.open_backend(strategy)?;
        let inspecting = async {
            let Some(info) = backend.inspect(resource).await? else { return Ok(None) };
            let holder = self.holder_of(strategy, &info.owner).await;
            Ok(Some(Found { resource: resource.into(), info, holder }))
        };
        unless_closed(&self.closed, inspecting).await
    }

    /// Begins to list the resources that are held and begin with this. No I/O.
    pub fn list(&self, strategy: Strategy, prefix: &str) -> Result<Listing> {
        let state = self.open_backend(strategy)?.list(prefix);
        let progress = Progress { state, holders: HashMap::new() };
        Ok(Listing { strategy, progress: tokio::sync::Mutex::new(Some(progress)) })
    }

    /// The next locks of a listing, which may be none although there are more; `None`: there are no more.
    pub async fn next_page(&self, listing: &Listing) -> Result<Option<Vec<Found>>> {
        let mut progress = listing.progress.lock().await;
        let Some(Progress { state, holders }) = progress.as_mut() else { return Ok(None) };
        let page = unless_closed(&self.closed, self.read_page(listing.strategy, state, holders)).await;
        if !matches!(page, Ok(Some(_))) {
            // It may be long until JavaScript's object is collected.
            *progress = None;
        }
        page
    }

    async fn read_page(
        &self,
        strategy: Strategy,
        state: &mut backend::Listing,
        holders: &mut HashMap<HolderId, Option<Holder>>,
    ) -> Result<Option<Vec<Found>>> {
        let page = match self.open_backend(strategy)?.next_page(state).await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(None),
            // What fails after that is a connection that was closed.
            Err(error) => return Err(self.open_backend(strategy).err().unwrap_or(error)),
        };
        let ids: Vec<_> = page.iter().map(|(_, info)| holder_id(&info.owner)).collect();
        let mut unknown: Vec<_> =
            ids.iter().flatten().copied().filter(|id| !holders.contains_key(id)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if holders.len() + unknown.len() > MAX_HOLDERS {
            holders.clear();
            unknown = ids.iter().flatten().copied().collect();
            unknown.sort_unstable();
            unknown.dedup();
        }
        // All at once: they travel together, or share a transaction.
        let found = join_all(unknown.iter().map(|&id| self.holder_with(strategy, id))).await;
        holders.extend(unknown.into_iter().zip(found));
        let found = page.into_iter().zip(ids).map(|((resource, info), id)| {
            let holder = id.and_then(|id| holders.get(&id).cloned().flatten());
            Found { resource, info, holder }
        });
        Ok(Some(found.collect()))
    }
}

impl Listing {
    /// Ends it early: what it remembers is dropped.
    pub fn end(&self) {
        // One that is under way ends by itself.
        if let Ok(mut progress) = self.progress.try_lock() {
            *progress = None;
        }
    }
}

/// Whose an owner is, if it is one of ours.
fn holder_id(owner: &str) -> Option<HolderId> {
    Owner::from_hex(owner).map(Owner::holder)
}
