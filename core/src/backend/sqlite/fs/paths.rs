//! Where the lock file is: its canonical path, the files next to it, and which file that path names now.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::backend::sqlite::errors;
use crate::error::{Error, Result};

/// The number of links that Linux follows.
const MAX_LINKS: usize = 40;

/// Identifies a file. All are equal on Windows, which reports no id on stable Rust, but does not let an open
/// database be replaced either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file behind this metadata.
    #[cfg(unix)]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The file behind this metadata.
    #[cfg(not(unix))]
    pub fn of(_metadata: &std::fs::Metadata) -> Self {
        Self { device: 0, inode: 0 }
    }

    /// The inode, which is unique on one device only.
    pub const fn inode(self) -> u64 {
        self.inode
    }
}

/// What `stat` returned for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The file.
    pub id: FileId,
    /// Its length in bytes.
    pub length: u64,
    /// How many names it has.
    pub links: u64,
}

/// What is at this path now; `None` if nothing. Opens nothing.
pub fn stat(path: &Path) -> Result<Option<FileStat>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            Ok(Some(FileStat { id: FileId::of(&metadata), length: metadata.len(), links: links(&metadata) }))
        }
        Ok(metadata) => Err(errors::unavailable(format!(
            "the lock file's path {} is {}; give the path of a file",
            path.display(),
            if metadata.is_dir() { "a directory" } else { "not a regular file" },
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(errors::io("access the lock file", path, &error)),
    }
}

#[cfg(unix)]
fn links(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_metadata: &std::fs::Metadata) -> u64 {
    1
}

/// Whether this file is a mount of its own, as when a single file is mounted into a container. Then the files
/// next to it are not the ones that other processes see.
#[cfg(target_os = "linux")]
pub fn is_mounted_alone(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // Linux before 5.8 does not report it.
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|facts| facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Single files are not mounted on this system.
#[cfg(not(target_os = "linux"))]
pub const fn is_mounted_alone(_path: &Path) -> bool {
    false
}

/// The path, independent of the working directory. Its links are not resolved, because what they point to may
/// change.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(Error::invalid(format!(
            "local: \"{}\" does not name a file, and processes can only share a file: give a path",
            path.display()
        )));
    }
    let path = std::path::absolute(path).map_err(|error| errors::io("resolve the path of", path, &error))?;
    // Without inodes only the path shows that two managers use the same file.
    if cfg!(unix) { Ok(path) } else { canonical(&path) }
}

/// The spelling of this path from which SQLite derives the names of -wal and -shm: with links resolved, even
/// those to a file that does not exist yet.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::canonicalize(&path) {
            Ok(path) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(errors::io("resolve the path of the lock file", &path, &error)),
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { break };
        let directory = std::fs::canonicalize(directory)
            .map_err(|error| errors::io("find the directory of the lock file", &path, &error))?;
        // A link to a file that does not exist yet: SQLite would create the file it points to.
        match std::fs::read_link(directory.join(name)) {
            Ok(target) => path = directory.join(target),
            Err(_) => return Ok(directory.join(name)),
        }
    }
    Err(errors::unavailable(format!("cannot resolve the path of the lock file {}", path.display())))
}

/// Whether it is certain that this path does not lead to this database any more, or that it was emptied.
pub fn is_replaced(path: &Path, id: FileId) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) => !metadata.is_file() || metadata.len() == 0 || FileId::of(&metadata) != id,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

/// The file next to the lock file with this suffix.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn spellings_of_one_path_become_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("alias")).unwrap();
        std::os::unix::fs::symlink("../real/a", root.join("real/dangling")).unwrap();
        let expected = root.join("real/a");
        for spelling in ["real/a", "alias/a", "alias/../alias/a", "alias/dangling"] {
            assert_eq!(canonical(&root.join(spelling)).unwrap(), expected, "{spelling}");
        }
        std::fs::write(&expected, "").unwrap();
        assert_eq!(canonical(&root.join("alias/dangling")).unwrap(), expected);
    }

    #[test]
    fn a_path_that_cannot_be_a_lock_file_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let missing = canonical(&directory.path().join("no/such/file")).unwrap_err();
        assert_eq!(missing.code(), "BACKEND_UNAVAILABLE");
        assert!(missing.to_string().contains("directory"), "{missing}");
        let folder = stat(directory.path()).unwrap_err();
        assert!(folder.to_string().contains("is a directory"), "{folder}");
        assert_eq!(absolute(Path::new(":memory:")).unwrap_err().code(), "INVALID_OPTION");
        assert_eq!(stat(&directory.path().join("none")).unwrap(), None);
    }
}
