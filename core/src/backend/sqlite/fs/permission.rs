//! What this process may do with a file or a directory, without opening it. Unknown counts as allowed.

use std::path::Path;

/// Whether it may read and write the file at this path, or there is none.
pub fn may_write(path: &Path) -> bool {
    is_allowed(path, Use::File)
}

/// Whether it may create files in this directory, which a lock file takes.
pub fn may_create_in(directory: &Path) -> bool {
    is_allowed(directory, Use::Directory)
}

#[derive(Debug, Clone, Copy)]
enum Use {
    File,
    Directory,
}

#[cfg(unix)]
fn is_allowed(path: &Path, of: Use) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    use rustix::io::Errno;

    let access = match of {
        Use::File => Access::READ_OK | Access::WRITE_OK,
        Use::Directory => Access::WRITE_OK | Access::EXEC_OK,
    };
    let found = accessat(CWD, path, access, AtFlags::EACCESS);
    !matches!(found, Err(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

#[cfg(not(unix))]
const fn is_allowed(_path: &Path, _of: Use) -> bool {
    true
}
