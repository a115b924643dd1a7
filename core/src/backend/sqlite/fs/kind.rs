//! The kind of file system that the lock file is on. WAL needs memory that all processes share, and liveness
//! files need locks that all processes see: only local disks provide both.

use std::path::Path;

use crate::error::Result;

/// Which processes see a file's locks and shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those of this host only.
    Local,
    /// Those of other hosts too, or it goes through another program; the name is for messages.
    Network(&'static str),
}

impl Kind {
    /// Whether it is not local.
    pub const fn is_network(self) -> bool {
        matches!(self, Self::Network(_))
    }
}

/// The kind of file system that this directory is on.
#[cfg(target_os = "linux")]
pub fn detect(directory: &Path) -> Result<Kind> {
    let facts = rustix::fs::statfs(directory).map_err(|error| {
        crate::backend::sqlite::errors::io(
            "determine the file system of the lock file's directory",
            directory,
            &error.into(),
        )
    })?;
    // Depending on the architecture the field is signed or not, and of different width; the magic number has
    // 32 bits.
    Ok(by_magic(facts.f_type as u32))
}

/// The numbers are from linux/magic.h, coreutils' stat.c and the projects' sources.
#[cfg(target_os = "linux")]
const fn by_magic(magic: u32) -> Kind {
    Kind::Network(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB/CIFS",
        0x6573_5546 => "FUSE (or virtiofs)",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0x1983_0326 => "BeeGFS",
        0x013a_11a8 | 0x0131_11a8 => "IBRIX",
        0xaad7_aaea => "PanFS",
        0xbeef_dead => "StorNext",
        0x6163_6673 => "ACFS",
        0x564c => "NCP",
        0x786f_4256 => "vboxsf",
        0xbacb_acbc => "vmhgfs",
        0x7c7c_6673 => "prl_fs",
        0x5346_4846 => "WSL",
        _ => return Kind::Local,
    })
}

/// The name of the local file system that this directory is on; `None` if it is not known here.
#[cfg(target_os = "linux")]
pub fn name(directory: &Path) -> Option<&'static str> {
    // From linux/magic.h too.
    Some(match rustix::fs::statfs(directory).ok()?.f_type as u32 {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xf2f5_2010 => "f2fs",
        0x2fc1_2fc1 => "zfs",
        0xca45_1a4e => "bcachefs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        _ => return None,
    })
}

/// The name of the local file system that this directory is on; `None` if it is not known here.
#[cfg(not(target_os = "linux"))]
pub const fn name(_directory: &Path) -> Option<&'static str> {
    None
}

/// The kind of file system that this directory is on.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn detect(directory: &Path) -> Result<Kind> {
    // MNT_LOCAL of <sys/mount.h>. macOS does not set it for network and FUSE file systems.
    const MNT_LOCAL: u32 = 0x1000;
    let facts = rustix::fs::statfs(directory).map_err(|error| {
        crate::backend::sqlite::errors::io(
            "determine the file system of the lock file's directory",
            directory,
            &error.into(),
        )
    })?;
    Ok(if facts.f_flags & MNT_LOCAL == 0 { Kind::Network("not local (MNT_LOCAL)") } else { Kind::Local })
}

/// The kind of file system that this directory is on.
#[cfg(windows)]
pub fn detect(directory: &Path) -> Result<Kind> {
    use std::os::windows::ffi::OsStrExt;
    use windows_sys::Win32::Storage::FileSystem::{GetDriveTypeW, GetVolumePathNameW};

    const DRIVE_REMOTE: u32 = 4;
    let wide: Vec<u16> = directory.as_os_str().encode_wide().chain([0]).collect();
    let mut root = vec![0_u16; wide.len().max(261)];
    // SAFETY: `wide` is NUL-terminated, and `root` has the number of elements passed to the call.
    let found = unsafe { GetVolumePathNameW(wide.as_ptr(), root.as_mut_ptr(), root.len() as u32) };
    if found == 0 {
        let error = std::io::Error::last_os_error();
        return Err(crate::backend::sqlite::errors::io(
            "determine the volume of the lock file's directory",
            directory,
            &error,
        ));
    }
    // SAFETY: the call above wrote a NUL-terminated string to `root`.
    let kind = unsafe { GetDriveTypeW(root.as_ptr()) };
    Ok(if kind == DRIVE_REMOTE { Kind::Network("a network drive") } else { Kind::Local })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_local_from_network_file_systems() {
        assert_eq!(detect(Path::new("/proc")).unwrap(), Kind::Local);
        assert_eq!(name(Path::new("/proc")), None);
        assert_eq!(name(Path::new("/dev/shm")), Some("tmpfs"));
        assert_eq!(by_magic(0x6969), Kind::Network("NFS"));
        assert_eq!(by_magic(0xff53_4d42), Kind::Network("SMB/CIFS"));
        assert_eq!(by_magic(0xef53), Kind::Local, "ext4");
        assert_eq!(detect(Path::new("/no/such/directory")).unwrap_err().code(), "BACKEND_UNAVAILABLE");
    }
}
