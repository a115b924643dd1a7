//! Who may use the file: its mode and that of the files next to it, and users that are not the same.

use std::os::unix::fs::{PermissionsExt, chown};

use crate::backend::sqlite::tests::TestDir;
use crate::backend::sqlite::tests::roles::ChildProcess;

const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;
const TEAM: u32 = 61_010;

/// Gives a directory to a group, whose members may use what is in it.
fn share(dir: &TestDir) {
    chown(dir.directory.path(), None, Some(TEAM)).unwrap();
    std::fs::set_permissions(dir.directory.path(), PermissionsExt::from_mode(0o2770)).unwrap();
}

/// The modes of all files in the directory, which must be the same.
fn mode_of_all(dir: &TestDir) -> u32 {
    let names = dir.names();
    assert_eq!(names.len(), 4, "{names:?}");
    let mode = |name: &String| dir.path.with_file_name(name).metadata().unwrap().permissions().mode() & 0o777;
    let modes: Vec<u32> = names.iter().map(mode).collect();
    assert!(modes.iter().all(|&mode| mode == modes[0]), "{names:?}: {modes:?}");
    modes[0]
}

#[test]
fn the_files_have_the_mode_that_the_umask_leaves_or_the_option_says() {
    for (umask, mode, expected) in [
        ("077", None, 0o600),
        ("027", None, 0o640),
        ("022", None, 0o644),
        ("002", None, 0o664),
        ("077", Some(0o660), 0o660),
        ("002", Some(0o600), 0o600),
    ] {
        let dir = TestDir::new();
        share(&dir);
        let Some(mut holder) = ChildProcess::start_as([ALICE, TEAM], umask, mode, "holder", &dir.path) else {
            return;
        };
        holder.read_report();
        assert_eq!(mode_of_all(&dir), expected, "{umask} {mode:?}");
        let warnings = dir.process().describe().warnings;
        assert!(!warnings.iter().any(|warning| warning.contains("mode")), "{warnings:?}");
    }
}

#[test]
fn users_of_one_group_share_a_file_and_see_each_other_die() {
    let dir = TestDir::new();
    share(&dir);
    let start = |user, role| ChildProcess::start_as([user, TEAM], "077", Some(0o660), role, &dir.path);
    let Some(mut alice) = start(ALICE, "holder") else { return };
    alice.read_report();
    let mut bob = start(BOB, "waiter for a death").unwrap();
    assert_eq!(bob.read_report(), "busy");
    // The second user follows the mode of the lock file, whatever its umask.
    for file in dir.liveness_files() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    }
    alice.kill();
    bob.resume();
    assert_eq!(bob.read_report(), "granted", "he may read her liveness file");
}

#[test]
fn a_process_of_root_gives_its_files_to_the_owner_of_the_lock_file() {
    let dir = TestDir::new();
    share(&dir);
    let Some(mut alice) = ChildProcess::start_as([ALICE, TEAM], "077", None, "holder that drops", &dir.path)
    else {
        return;
    };
    assert_eq!(alice.read_report(), "left");
    let root = dir.process();
    let lease = root.acquire(&["of root"], 60_000);
    for name in dir.names() {
        let owner = std::os::unix::fs::MetadataExt::uid(&dir.path.with_file_name(&name).metadata().unwrap());
        assert_eq!(owner, ALICE, "{name}");
    }
    assert!(root.release(&lease).unwrap());
}

#[test]
fn what_keeps_others_out_is_described() {
    let dir = TestDir::new();
    share(&dir);
    let Some(mut alice) = ChildProcess::start_as([ALICE, TEAM], "007", None, "holder", &dir.path) else {
        return;
    };
    alice.read_report();
    let file = dir.liveness_files().remove(0);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let describe = |mode| {
        let bob = ChildProcess::start_as([BOB, TEAM], "077", mode, "describer", &dir.path);
        bob.unwrap().read_report()
    };
    assert!(describe(None).contains("may not read 1 of the liveness files"));
    assert!(describe(Some(0o600)).contains("has the mode 0o660, and `mode` is 0o600"));
    drop(alice);

    let dir = TestDir::new();
    std::fs::set_permissions(dir.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut bob = ChildProcess::start_as([BOB, TEAM], "077", None, "describer", &dir.path).unwrap();
    assert!(bob.read_report().contains("may not write the directory"));
}
