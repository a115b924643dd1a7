//! What identifies the liveness file of a process: in rows, and in the name of the file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::backend::sqlite::fs::paths;

/// Between the lock file's name and the numbers.
const INFIX: &str = "-live-";

/// Identifies the liveness file of a process, in rows and in the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The file's inode, so that a restored or copied file proves nothing; 0 where the system reports none.
    pub inode: u64,
    /// The process's pid namespace; 0 on systems without them.
    pub pid_namespace: u64,
    /// The process id.
    pub pid: u32,
    /// Random, so that no two files ever share a name. Never 0.
    pub nonce: u64,
}

impl Mark {
    /// The bytes in a row.
    pub const BYTES: usize = 28;

    /// The bytes that are stored.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.inode.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.pid_namespace.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.pid.to_be_bytes());
        bytes[20..].copy_from_slice(&self.nonce.to_be_bytes());
        bytes
    }

    /// From the stored bytes; `None` if the holder kept no file.
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

    /// The path of the file, next to this lock file.
    pub fn path(&self, database: &Path) -> PathBuf {
        let Self { pid_namespace, pid, nonce, .. } = self;
        paths::sibling(database, &format!("{INFIX}{pid_namespace}-{pid}-{nonce:016x}"))
    }

    /// The mark, without the inode, that is in the name of a file next to the lock file.
    pub fn parse(database: &OsStr, sibling: &OsStr) -> Option<Self> {
        let rest = sibling.to_str()?.strip_prefix(database.to_str()?)?.strip_prefix(INFIX)?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_identifies_its_process() {
        let mark = Mark { inode: 9, pid_namespace: 4_026_531_836, pid: 77, nonce: 0x00ab };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        let path = mark.path(Path::new("/d/locks.sqlite"));
        assert_eq!(path, Path::new("/d/locks.sqlite-live-4026531836-77-00000000000000ab"));
        let parse = |name: &str| Mark::parse(OsStr::new("locks.sqlite"), OsStr::new(name));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse(name), Some(Mark { inode: 0, ..mark }));
        for other in ["locks.sqlite-wal", "locks.sqlite-live-1-2-3", "x-live-1-2-00000000000000ab"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse(&format!("{name}-bak")), None);
    }
}
