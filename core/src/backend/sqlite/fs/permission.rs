//! What this process may do with a file, without opening it.

use std::path::Path;

/// Whether it may read and write the file at this path, or there is none.
#[cfg(unix)]
pub fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    use rustix::io::Errno;
    let access = accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS);
    !matches!(access, Err(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// That is not known here.
#[cfg(not(unix))]
pub const fn may_write(_path: &Path) -> bool {
    true
}
