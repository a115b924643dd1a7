//! Who can use a lock file, as far as this process can see.

use std::path::{Path, PathBuf};

use crate::backend::sqlite::config::Config;
use crate::backend::sqlite::fs::regular_file::Permissions;
use crate::backend::sqlite::fs::{paths, permission};
use crate::backend::sqlite::holders::liveness;

/// What the users of a lock file depend on, apart from SQLite.
#[derive(Debug, Clone, Default)]
pub struct AccessFacts {
    /// Whether the user spelled the path relative to the working directory.
    pub is_relative: bool,
    /// The directory of the lock file, if this process may not write there.
    pub unwritable: Option<PathBuf>,
    /// The mode of the lock file and the one that this process would have given it, if they differ.
    pub other_mode: Option<[u32; 2]>,
    /// How many processes keep liveness files that this process may not read.
    pub unreadable: usize,
}

impl AccessFacts {
    /// For the lock file at this path, whether it exists or not.
    pub fn read(path: &Path, config: &Config) -> Self {
        let canonical = paths::canonical(path).unwrap_or_else(|_| path.to_owned());
        let found = std::fs::metadata(&canonical).ok().and_then(|file| Permissions::of(&file).mode);
        let directory = canonical.parent().filter(|directory| !permission::may_create_in(directory));
        Self {
            is_relative: config.is_relative,
            unwritable: directory.map(Path::to_owned),
            other_mode: found.zip(config.mode).filter(|(found, wanted)| found != wanted).map(Into::into),
            unreadable: liveness::unreadable(&canonical).unwrap_or(0),
        }
    }

    /// What to look at.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let relative = self.is_relative.then(|| {
            "The path of the lock file was given relative to the working directory: a process that is started \
             in another directory uses another lock file, and gets the same locks. Give an absolute path, for \
             example join(import.meta.dirname, 'locks.sqlite')."
                .to_owned()
        });
        let unwritable = self.unwritable.as_ref().map(|directory| {
            format!(
                "This process may not write the directory {}, so it cannot get a lock: give it the permission, \
                 or set `local` to another path.",
                directory.display()
            )
        });
        let other_mode = self.other_mode.map(|[found, wanted]| {
            format!(
                "The lock file has the mode 0o{found:o}, and `mode` is 0o{wanted:o}, which only a new file is \
                 given: change it with chmod, together with that of its -wal and -shm."
            )
        });
        let unreadable = (self.unreadable > 0).then(|| {
            format!(
                "This process may not read {} of the liveness files next to the lock file: when the processes \
                 die that keep them, their leases have to expire. Have all users of the lock file be in the \
                 group of its directory, set that directory's setgid bit, and give the file the mode 0o660.",
                self.unreadable
            )
        });
        [relative, unwritable, other_mode, unreadable].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_of_what_keeps_others_out() {
        assert_eq!(AccessFacts::default().warnings().count(), 0);
        let facts = AccessFacts {
            is_relative: true,
            unwritable: Some("/srv/data".into()),
            other_mode: Some([0o644, 0o660]),
            unreadable: 2,
        };
        let warnings: Vec<_> = facts.warnings().collect();
        for (warning, part) in warnings.iter().zip(["absolute path", "/srv/data", "0o644", "read 2 of"]) {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(warnings.len(), 4);
    }
}
