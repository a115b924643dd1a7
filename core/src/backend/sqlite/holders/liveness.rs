//! Liveness files: how others learn that a process died, without waiting for its leases to run out.
//!
//! Each process keeps one empty file beside each lock file and holds it locked from before its first lease until it
//! closes, or, if leases are left then, until it ends. The kernel drops the lock when the process dies, however that happens. A row names the file and its inode;
//! whoever finds a resource taken tries for a shared lock. Getting it proves the holder dead. A file that is missing,
//! or another one, proves nothing: then the lease has to run out.
//!
//! Only the holder ever locks exclusively. All others lock shared, so probing and sweeping disturb neither each other
//! nor the answer that a third process gets.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::backend::sqlite::errors;
use crate::backend::sqlite::fs::paths::{self, FileId};
use crate::error::{Error, Result};

/// Between the lock file's name and the rest.
const INFIX: &str = "-live-";

/// Names one process's liveness file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The file's inode, so that a restored or copied file proves nothing; 0 where the system tells none.
    pub inode: u64,
    /// The process's pid namespace; 0 where there is no such thing.
    pub pid_namespace: u64,
    /// The process.
    pub pid: u32,
    /// Random, so that no two files ever share a name. Never 0.
    pub nonce: u64,
}

impl Mark {
    /// Bytes in a row.
    pub const BYTES: usize = 28;

    /// As it is stored.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.inode.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.pid_namespace.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.pid.to_be_bytes());
        bytes[20..].copy_from_slice(&self.nonce.to_be_bytes());
        bytes
    }

    /// From what is stored; `None` if the holder kept no file.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (inode, rest) = bytes.split_first_chunk()?;
        let (pid_namespace, rest) = rest.split_first_chunk()?;
        let (pid, rest) = rest.split_first_chunk()?;
        let nonce = u64::from_be_bytes(rest.try_into().ok()?);
        (nonce != 0).then(|| Self {
            inode: u64::from_be_bytes(*inode),
            pid_namespace: u64::from_be_bytes(*pid_namespace),
            pid: u32::from_be_bytes(*pid),
            nonce,
        })
    }

    fn path(&self, database: &Path) -> PathBuf {
        let Self { pid_namespace, pid, nonce, .. } = self;
        paths::beside(database, &format!("{INFIX}{pid_namespace}-{pid}-{nonce:016x}"))
    }

    /// The mark that a neighbour of the lock file stands for, the inode aside.
    fn parse(database: &OsStr, neighbour: &OsStr) -> Option<Self> {
        let rest = neighbour.to_str()?.strip_prefix(database.to_str()?)?.strip_prefix(INFIX)?;
        let mut parts = rest.split('-');
        let (namespace, pid, nonce) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || nonce.len() != 16 {
            return None;
        }
        Some(Self {
            inode: 0,
            pid_namespace: namespace.parse().ok()?,
            pid: pid.parse().ok()?,
            nonce: u64::from_str_radix(nonce, 16).ok().filter(|&nonce| nonce != 0)?,
        })
    }

    /// Whether this copy of fencelock, in this process, made it.
    fn is_ours(&self) -> bool {
        ours().contains(&self.nonce)
    }
}

/// The nonces of this copy's files. Not those of another copy of fencelock in the same process: that is the point.
fn ours() -> MutexGuard<'static, HashSet<u64>> {
    static OURS: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process's own file, locked. Dropping it removes the file: leases that are left then run out by themselves.
#[derive(Debug)]
pub struct Liveness {
    mark: Mark,
    path: PathBuf,
    // Holds the lock; dropped after the name is gone.
    _file: File,
}

impl Liveness {
    /// Makes and locks a file for this process beside the lock file.
    pub fn keep(database: &Path) -> Result<Self> {
        // A sweeper may meet the file between its making and its locking, take it for a dead process's and remove it.
        // The next one has another name.
        for _ in 0..64 {
            let mut mark = Mark {
                inode: 0,
                pid_namespace: pid_namespace().unwrap_or(0),
                pid: std::process::id(),
                nonce: nonce(),
            };
            let path = mark.path(database);
            // Before it exists, so that no thread of ours ever takes it for another copy's.
            ours().insert(mark.nonce);
            match claim(&path) {
                Ok(Some(file)) => {
                    let metadata = file.metadata().map_err(|error| errors::io("use", &path, &error))?;
                    mark.inode = FileId::of(&metadata).inode();
                    return Ok(Self { mark, path, _file: file });
                }
                Ok(None) => {
                    ours().remove(&mark.nonce);
                }
                Err(error) => {
                    ours().remove(&mark.nonce);
                    return Err(errors::io("make and lock", &path, &error));
                }
            }
        }
        Err(Error::unavailable(format!(
            "cannot keep a liveness file beside the lock file {}: others remove it at once. Nothing was granted",
            database.display()
        )))
    }

    /// What our rows carry.
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// Keeps the file locked until the process ends: leases are left that somebody may still count on, so nobody may take
    /// them over before; and then everybody may at once.
    pub fn outlive(self) {
        static KEPT: Mutex<Vec<Liveness>> = Mutex::new(Vec::new());
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        // The name goes before the lock does, so that nobody finds a free file and takes us for dead while leases
        // that somebody still counts on run out.
        let _ = std::fs::remove_file(&self.path);
        ours().remove(&self.mark.nonce);
    }
}

/// Makes and locks the file; `None` if somebody else got hold of it in between.
fn claim(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
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
    let still_named = std::fs::metadata(path)
        .is_ok_and(|named| file.metadata().is_ok_and(|locked| FileId::of(&named) == FileId::of(&locked)));
    Ok(still_named.then_some(file))
}

/// What can be told about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// It holds its file locked.
    Alive,
    /// Its file is there and nobody holds it.
    Dead,
    /// Nothing proves either.
    Unknown,
}

/// Looks whether the process that keeps this file still lives. Makes nothing.
pub fn probe(database: &Path, mark: &Mark) -> Pulse {
    if mark.is_ours() {
        return Pulse::Alive;
    }
    let Ok(file) = File::open(mark.path(database)) else { return Pulse::Unknown };
    let Ok(metadata) = file.metadata() else { return Pulse::Unknown };
    if FileId::of(&metadata).inode() != mark.inode {
        return Pulse::Unknown;
    }
    match file.try_lock_shared() {
        Ok(()) => Pulse::Dead,
        Err(TryLockError::WouldBlock) => Pulse::Alive,
        Err(TryLockError::Error(_)) => Pulse::Unknown,
    }
}

/// Whether other processes seem to use the lock file. By the names alone: one that died may be among them.
pub fn has_company(database: &Path) -> bool {
    others(database).is_ok_and(|others| !others.is_empty())
}

/// Refuses if another copy of fencelock in this very process uses the lock file: two copies of SQLite drop each
/// other's POSIX locks, and then commits are lost (<https://sqlite.org/howtocorrupt.html>, section 2.2.1).
pub fn refuse_second_copy(database: &Path) -> Result<()> {
    // Without its namespace a pid says nothing: every container has a process 1.
    let Some(pid_namespace) = pid_namespace() else { return Ok(()) };
    for (mark, path) in others(database)? {
        if (mark.pid_namespace, mark.pid) != (pid_namespace, std::process::id()) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return Err(Error::unsupported(format!(
                "another copy of fencelock in this process uses the lock file {}, and two would damage it: let the \
                 package manager install one version only (`npm dedupe`), or give each a path of its own. Nothing was \
                 granted",
                database.display()
            )));
        }
    }
    Ok(())
}

/// A dead process's file, kept from vanishing until its leases are freed.
#[derive(Debug)]
pub struct Remains {
    /// What its rows carry.
    pub mark: Mark,
    path: PathBuf,
    _locked: File,
}

impl Remains {
    /// Its leases are free: the file is of no more use.
    pub fn bury(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The files that dead processes left beside the lock file.
pub fn remains(database: &Path) -> Result<Vec<Remains>> {
    let mut remains = Vec::new();
    for (mut mark, path) in others(database)? {
        let Ok(file) = File::open(&path) else { continue };
        if let (Ok(()), Ok(metadata)) = (file.try_lock_shared(), file.metadata()) {
            mark.inode = FileId::of(&metadata).inode();
            remains.push(Remains { mark, path, _locked: file });
        }
    }
    Ok(remains)
}

/// The liveness files that this copy did not make.
fn others(database: &Path) -> Result<Vec<(Mark, PathBuf)>> {
    let (Some(directory), Some(name)) = (database.parent(), database.file_name()) else {
        return Ok(Vec::new());
    };
    let list = || -> io::Result<Vec<(Mark, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(mark) = Mark::parse(name, &entry.file_name()).filter(|mark| !mark.is_ours()) {
                found.push((mark, entry.path()));
            }
        }
        Ok(found)
    };
    list().map_err(|error| errors::io("list the directory of the lock file", database, &error))
}

/// Random, and not 0.
pub fn nonce() -> u64 {
    loop {
        let nonce = getrandom::u64().expect("the operating system has randomness once it has booted");
        if nonce != 0 {
            return nonce;
        }
    }
}

/// The pid namespace of this process; `None` if the system has them but does not tell.
#[cfg(target_os = "linux")]
fn pid_namespace() -> Option<u64> {
    // "pid:[4026531836]"
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// There are none here.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux may not tell")]
fn pid_namespace() -> Option<u64> {
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_they_are() {
        let mark = Mark { inode: 9, pid_namespace: 4_026_531_836, pid: 77, nonce: 0x00ab };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        let path = mark.path(Path::new("/d/locks.sqlite"));
        assert_eq!(path, Path::new("/d/locks.sqlite-live-4026531836-77-00000000000000ab"));
        let parse = |name: &str| Mark::parse(OsStr::new("locks.sqlite"), OsStr::new(name));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse(name), Some(Mark { inode: 0, ..mark }));
        for stranger in ["locks.sqlite-wal", "locks.sqlite-live-1-2-3", "x-live-1-2-00000000000000ab"] {
            assert_eq!(parse(stranger), None, "{stranger}");
        }
        assert_eq!(parse(&format!("{name}-bak")), None);
    }

    #[test]
    fn the_lock_is_the_pulse() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("l");
        let kept = Liveness::keep(&database).unwrap();
        let mark = kept.mark();
        assert_eq!(probe(&database, &mark), Pulse::Alive, "known without a look");
        ours().remove(&mark.nonce);
        assert_eq!(probe(&database, &mark), Pulse::Alive, "locked");
        assert_eq!(refuse_second_copy(&database).unwrap_err().code(), "UNSUPPORTED");
        assert_eq!(remains(&database).unwrap().len(), 0);
        assert_eq!(
            probe(&database, &Mark { inode: mark.inode + 1, ..mark }),
            Pulse::Unknown,
            "another inode"
        );

        let path = kept.path.clone();
        drop(kept);
        assert!(!path.exists());
        assert_eq!(probe(&database, &mark), Pulse::Unknown, "missing");

        File::create(&path).unwrap();
        let left = Mark { inode: FileId::of(&path.metadata().unwrap()).inode(), ..mark };
        assert_eq!(probe(&database, &left), Pulse::Dead);
        refuse_second_copy(&database).unwrap();
        let found = remains(&database).unwrap();
        assert_eq!(found.iter().map(|remains| remains.mark).collect::<Vec<_>>(), [left]);
        assert_eq!(probe(&database, &left), Pulse::Dead, "sweeping does not look like life");
        found.into_iter().for_each(Remains::bury);
        assert!(!path.exists());
    }
}
