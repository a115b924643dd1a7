//! Liveness files: how other processes find out that a process died, without waiting for its leases to
//! expire.
//!
//! Each process keeps one empty file next to each lock file. It holds the file locked from before its first
//! lease until it closes or, if leases are left then, until it exits. The kernel drops the lock when the
//! process dies, for whatever reason. A row names the file and its inode; a process that finds a resource
//! taken tries to get a shared lock on it. Getting it proves the holder dead. A file that is missing, or is
//! another one, proves nothing: then the lease has to expire.
//!
//! Only the holder ever locks exclusively. All others lock shared, so probing and reaping neither disturb
//! each other nor change the result of a third process's probe.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, MutexGuard};

use super::mark::Mark;
use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths::FileId;
use crate::backend::sqlite::fs::regular_file::{self, Permissions};
use crate::error::Result;
use crate::runtime::sync::Mutex;

/// The nonces of the files of this copy of fencelock, as opposed to another copy in the same process.
fn ours() -> MutexGuard<'static, HashSet<u64>> {
    static OURS: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);
    OURS.lock()
}

/// Whether this copy of fencelock, in this process, created the file.
fn is_ours(mark: &Mark) -> bool {
    ours().contains(&mark.nonce)
}

/// This process's own file, locked. Dropping it removes the file; leases that are left then have to expire.
#[derive(Debug)]
pub struct Liveness {
    mark: Mark,
    path: PathBuf,
    // Holds the lock; dropped after the name is removed.
    file: File,
    /// Whether leases may be left that carry its mark, beside those of the store that has it.
    is_kept: bool,
}

/// Those that stay locked until the process exits, or until a store takes them over.
static KEPT: Mutex<Vec<Liveness>> = Mutex::new(Vec::new());

impl Liveness {
    /// Takes over the file that this process keeps for leases that are left, or creates one: so there is only
    /// one, however often the lock file has to be opened anew.
    pub fn take_kept_or_create(database: &Path, permissions: Permissions) -> Result<Self> {
        let kept = {
            let mut kept = KEPT.lock();
            let found = kept.iter().position(|liveness| liveness.path == liveness.mark.path(database));
            found.map(|index| kept.swap_remove(index))
        };
        match kept {
            Some(liveness) if is_named(&liveness.path, &liveness.file) => Ok(liveness),
            kept => {
                let created = Self::create(database, permissions);
                // Without its name it proves nothing now; its directory may be renamed back.
                kept.into_iter().for_each(Self::keep_until_exit);
                created
            }
        }
    }

    /// Creates and locks a file for this process next to the lock file.
    pub fn create(database: &Path, permissions: Permissions) -> Result<Self> {
        // A reaper may see the file after it is created and before it is locked, take it for that of a dead
        // process, and remove it. The next one has another name.
        for _ in 0..64 {
            let mut mark = Mark {
                inode: 0,
                pid_namespace: pid_namespace().unwrap_or(0),
                pid: std::process::id(),
                nonce: nonce(),
            };
            let path = mark.path(database);
            // Before it exists, so that no thread of ours ever takes it for that of another copy.
            ours().insert(mark.nonce);
            match claim(&path, permissions) {
                Ok(Some(file)) => {
                    let metadata = file.metadata().map_err(|error| errors::io("use", &path, &error))?;
                    mark.inode = FileId::of(&metadata).inode();
                    return Ok(Self { mark, path, file, is_kept: false });
                }
                Ok(None) => {
                    ours().remove(&mark.nonce);
                }
                Err(error) => {
                    ours().remove(&mark.nonce);
                    return Err(errors::io("create and lock", &path, &error));
                }
            }
        }
        Err(errors::unavailable(format!(
            "cannot keep a liveness file next to the lock file {}: another program removes it immediately",
            database.display()
        )))
    }

    /// What the rows of this process carry.
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// The mode of the file; `None` where files have none.
    pub fn mode(&self) -> Option<u32> {
        self.file.metadata().ok().and_then(|metadata| Permissions::of(&metadata).mode)
    }

    /// Keeps the file locked until the process exits: leases are left that a user may still rely on. No other
    /// process may take them over until then, and all may from then on.
    pub fn keep_until_exit(mut self) {
        self.is_kept = true;
        KEPT.lock().push(self);
    }

    /// Whether an earlier store of the lock file left leases.
    pub const fn is_kept(&self) -> bool {
        self.is_kept
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        // The name is removed before the lock is released, so that no process finds an unlocked file and
        // takes this one for dead while a user still relies on a lease that is expiring.
        let _ = std::fs::remove_file(&self.path);
        ours().remove(&self.mark.nonce);
    }
}

/// Creates and locks the file; `None` if another process got hold of it in between.
fn claim(path: &Path, permissions: Permissions) -> io::Result<Option<File>> {
    let file = match regular_file::create(path, permissions) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let _ = std::fs::remove_file(path);
            return Ok(None);
        }
        Err(TryLockError::Error(error)) => {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
    }
    let is_named = is_named(path, &file);
    Ok(is_named.then_some(file))
}

/// Whether this path leads to this file.
fn is_named(path: &Path, file: &File) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|named| file.metadata().is_ok_and(|open| FileId::of(&named) == FileId::of(&open)))
}

/// What is known about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It has its file locked.
    Alive,
    /// Its file exists and is not locked.
    Dead,
    /// There is no proof of either.
    Unknown,
}

/// Checks whether the process that keeps this file is alive. Creates nothing.
pub fn probe(database: &Path, mark: &Mark) -> ProcessState {
    if is_ours(mark) {
        return ProcessState::Alive;
    }
    let Ok(file) = regular_file::open(&mark.path(database)) else { return ProcessState::Unknown };
    let Ok(metadata) = file.metadata() else { return ProcessState::Unknown };
    if FileId::of(&metadata).inode() != mark.inode {
        return ProcessState::Unknown;
    }
    match file.try_lock_shared() {
        Ok(()) => ProcessState::Dead,
        Err(TryLockError::WouldBlock) => ProcessState::Alive,
        Err(TryLockError::Error(_)) => ProcessState::Unknown,
    }
}

/// Whether there are liveness files of other processes. One of a process that died counts too.
pub fn may_have_other_users(database: &Path) -> bool {
    others(database).is_ok_and(|others| !others.is_empty())
}

/// Refuses if another copy of fencelock in this very process uses the lock file: two copies of SQLite drop
/// each other's POSIX locks, and then commits are lost (<https://sqlite.org/howtocorrupt.html>, section
/// 2.2.1).
pub fn refuse_second_copy(database: &Path) -> Result<()> {
    // Without its namespace a pid means nothing: every container has a process 1.
    let Some(pid_namespace) = pid_namespace() else { return Ok(()) };
    for (mark, path) in others(database)? {
        if (mark.pid_namespace, mark.pid) != (pid_namespace, std::process::id()) {
            continue;
        }
        let Ok(file) = regular_file::open(&path) else { continue };
        if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return Err(errors::unsupported(format!(
                "another copy of fencelock in this process uses the lock file {}, and two copies would \
                 damage it: have the package manager install a single version (`npm dedupe`), or give each \
                 copy its own path",
                database.display()
            )));
        }
    }
    Ok(())
}

/// The file of a dead process, locked so that it stays until the leases of that process are freed.
#[derive(Debug)]
pub struct DeadHolder {
    /// What the rows of that process carry.
    pub mark: Mark,
    path: PathBuf,
    _locked: File,
}

impl DeadHolder {
    /// Removes the file, once all its leases are freed.
    pub fn remove_file(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The files that dead processes left next to the lock file. Each is opened when it is asked for: there may
/// be more than a process may have open.
pub fn dead_holders(database: &Path) -> Result<impl Iterator<Item = DeadHolder> + use<>> {
    Ok(others(database)?.into_iter().filter_map(|(mark, path)| {
        let file = regular_file::open(&path).ok()?;
        file.try_lock_shared().ok()?;
        let inode = FileId::of(&file.metadata().ok()?).inode();
        Some(DeadHolder { mark: Mark { inode, ..mark }, path, _locked: file })
    }))
}

/// How many other processes have files that this one may not read. When such a process dies, its leases have
/// to expire.
pub fn unreadable(database: &Path) -> Result<usize> {
    let is_unreadable = |path: &Path| {
        regular_file::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    Ok(others(database)?.iter().filter(|(_, path)| is_unreadable(path)).count())
}

/// The liveness files that this copy of fencelock did not create.
fn others(database: &Path) -> Result<Vec<(Mark, PathBuf)>> {
    let (Some(directory), Some(name)) = (database.parent(), database.file_name()) else {
        return Ok(Vec::new());
    };
    let list = || -> io::Result<Vec<(Mark, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(mark) = Mark::parse(name, &entry.file_name()).filter(|mark| !is_ours(mark)) {
                found.push((mark, entry.path()));
            }
        }
        Ok(found)
    };
    list().map_err(|error| errors::io("list the directory of the lock file", database, &error))
}

/// A random number other than 0.
pub fn nonce() -> u64 {
    loop {
        let nonce = getrandom::u64().expect("the operating system has randomness once it has booted");
        if nonce != 0 {
            return nonce;
        }
    }
}

/// The pid namespace of this process; `None` if the system has them but does not report it.
#[cfg(target_os = "linux")]
fn pid_namespace() -> Option<u64> {
    // "pid:[4026531836]"
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// This system has none.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux may not report it")]
fn pid_namespace() -> Option<u64> {
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_shows_whether_a_process_is_alive() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("l");
        let kept = Liveness::create(&database, Permissions::default()).unwrap();
        let mark = kept.mark();
        assert_eq!(probe(&database, &mark), ProcessState::Alive, "known without a probe");
        ours().remove(&mark.nonce);
        assert_eq!(probe(&database, &mark), ProcessState::Alive, "locked");
        assert_eq!(refuse_second_copy(&database).unwrap_err().code(), "UNSUPPORTED");
        assert_eq!(dead_holders(&database).unwrap().count(), 0);
        assert_eq!(
            probe(&database, &Mark { inode: mark.inode + 1, ..mark }),
            ProcessState::Unknown,
            "another inode"
        );

        let path = kept.path.clone();
        drop(kept);
        assert!(!path.exists());
        assert_eq!(probe(&database, &mark), ProcessState::Unknown, "missing");

        File::create(&path).unwrap();
        let left = Mark { inode: FileId::of(&path.metadata().unwrap()).inode(), ..mark };
        assert_eq!(probe(&database, &left), ProcessState::Dead);
        refuse_second_copy(&database).unwrap();
        let found: Vec<_> = dead_holders(&database).unwrap().collect();
        assert_eq!(found.iter().map(|dead| dead.mark).collect::<Vec<_>>(), [left]);
        assert_eq!(probe(&database, &left), ProcessState::Dead, "reaping is not mistaken for a live process");
        found.into_iter().for_each(DeadHolder::remove_file);
        assert!(!path.exists());
    }
}
