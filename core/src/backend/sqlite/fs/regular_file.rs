//! Opens the files next to the lock file that are ours: liveness files, the lock of a creation. Every user
//! who may write the directory can put something else at their names: a FIFO, which blocks any process that
//! opens it, or a link to a file elsewhere. So none of these is opened by any other means.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// The permissions of the files that a process creates next to a lock file. The default leaves them to the
/// umask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Permissions {
    /// The mode; `None`: what the umask leaves of 0666.
    pub mode: Option<u32>,
    /// The group; `None`: as the system chooses.
    pub group: Option<u32>,
    /// The user, for processes that may give files away; `None`: this process's.
    pub user: Option<u32>,
}

/// Opens a file for reading, which is all that locking it takes. Does not follow a link, and never waits.
pub fn open(path: &Path) -> io::Result<File> {
    let special = || io::Error::other("it is not a regular file; remove it");
    let file = match options().read(true).open(path) {
        // A link, or a socket.
        Err(error) if error.kind() != io::ErrorKind::NotFound && matches!(is_in_the_way(path), Ok(true)) => {
            return Err(special());
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(special()) }
}

/// Creates a file that does not exist yet.
pub fn create(path: &Path, permissions: Permissions) -> io::Result<File> {
    let file = options().read(true).write(true).create_new(true).open(path)?;
    permissions.apply(&file)?;
    Ok(file)
}

/// Opens a file, or creates it. Never opens with permission to create what exists already: in a directory
/// that is sticky and writable for all, Linux refuses that for another user's file (`fs.protected_regular`).
pub fn open_or_create(path: &Path, permissions: Permissions) -> io::Result<File> {
    loop {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        match create(path, permissions) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created,
        }
    }
}

/// Whether something is at this path that is not a regular file; links are not followed. Opens nothing.
pub fn is_in_the_way(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(!metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let mut options = OpenOptions::new();
    // The standard library adds CLOEXEC.
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed());
    options
}

#[cfg(windows)]
fn options() -> OpenOptions {
    use std::os::windows::fs::OpenOptionsExt;

    use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OPEN_REPARSE_POINT;

    let mut options = OpenOptions::new();
    // Opens a link itself. A pipe is not in a directory there.
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    options
}

impl Permissions {
    /// Those for a new file next to this one.
    pub fn beside(path: &Path) -> Self {
        std::fs::metadata(path).map_or_else(|_| Self::default(), |metadata| Self::of(&metadata))
    }

    /// Those of an existing file, for the files next to it: the users of the one need the others.
    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        let is_root = rustix::process::geteuid().is_root();
        let (mode, group) = (Some(mode(metadata)), Some(metadata.gid()));
        Self { mode, group, user: is_root.then(|| metadata.uid()) }
    }

    /// Those of an existing file: this system has none.
    #[cfg(not(unix))]
    pub fn of(_metadata: &Metadata) -> Self {
        Self::default()
    }

    #[cfg(unix)]
    fn apply(self, file: &File) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;

        if self.group.is_some() || self.user.is_some() {
            // Only some processes may. If this one may not, others have to wait for its leases to expire when
            // it dies, which `describe` reports.
            let _ = std::os::unix::fs::fchown(file, self.user, self.group);
        }
        match self.mode {
            // In spite of the umask.
            Some(wanted) if wanted != mode(&file.metadata()?) => {
                file.set_permissions(std::fs::Permissions::from_mode(wanted))
            }
            _ => Ok(()),
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "other systems have permissions")]
    fn apply(self, _file: &File) -> io::Result<()> {
        Ok(())
    }
}

/// The permissions in a file's mode.
#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn only_regular_files_are_opened_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink("elsewhere", at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for name in ["fifo", "link", "folder"] {
            open(&at(name)).unwrap_err();
            open_or_create(&at(name), Permissions::default()).unwrap_err();
            assert!(is_in_the_way(&at(name)).unwrap());
        }
        assert!(!at("elsewhere").exists());
        assert!(!is_in_the_way(&at("none")).unwrap());
        open_or_create(&at("file"), Permissions::default()).unwrap();
        open(&at("file")).unwrap();
        assert!(!is_in_the_way(&at("file")).unwrap());
    }

    #[test]
    #[cfg(unix)]
    fn a_new_file_has_the_permissions_that_were_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        // More than the umask leaves.
        let permissions = Permissions { mode: Some(0o666), ..Permissions::default() };
        assert_eq!(mode(&create(&path, permissions).unwrap().metadata().unwrap()), 0o666);
        let again = open_or_create(&path, Permissions { mode: Some(0o600), ..permissions }).unwrap();
        assert_eq!(mode(&again.metadata().unwrap()), 0o666, "it existed");
    }
}
