//! How the death of a holder is noticed, and what must not be mistaken for it.

use std::fs::File;
#[cfg(target_os = "linux")]
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use super::roles::ChildProcess;
use super::{TestDir, request};
#[cfg(target_os = "linux")]
use crate::backend::contract::Attempt;
use crate::backend::contract::{LockBackend, SyncBackend};
use crate::lease::Ttl;

/// Whether the file is removed, in the background.
fn is_reaped(file: &Path) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !file.exists()
    })
}

#[test]
fn the_lease_of_a_killed_holder_is_free_at_once() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    let token: u64 = holder.read_report().parse().unwrap();
    let process = dir.process();
    assert!(process.busy_for("r") > Duration::from_secs(50), "it is alive");
    holder.kill();
    // The store was open before, so only a probe of this row can find it out.
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(process.acquire(&["r"], 60_000).token > token);
}

#[test]
fn leases_and_files_of_dead_processes_are_removed_at_open() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    holder.read_report();
    let left = dir.liveness_files();
    assert_eq!(left.len(), 1);
    holder.kill();
    let process = dir.process();
    process.connect().unwrap();
    assert!(is_reaped(&left[0]));
    assert_eq!(dir.liveness_files().len(), 1, "our own");
    let taken: u32 = dir
        .raw()
        .query_row("SELECT count(*) FROM leases WHERE owner IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(taken, 0, "freed, not only skipped");
}

#[test]
#[cfg(target_os = "linux")]
fn the_files_of_many_dead_processes_are_opened_a_few_at_a_time() {
    const DEAD: usize = 1500;
    let dir = TestDir::new();
    for number in 1..=DEAD {
        File::create(dir.path.with_file_name(format!("locks.sqlite-live-1-{number}-{number:016x}"))).unwrap();
    }
    let mut reaper = ChildProcess::start("reaper", &dir.path);
    let most_open: usize = reaper.read_report().parse().unwrap();
    assert!(most_open < 200, "{most_open} descriptors");
    assert_eq!(dir.liveness_files().len(), 1, "only that of the reaper is left");
}

#[test]
fn a_live_holder_whose_file_was_deleted_keeps_its_lease() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    holder.read_report();
    for file in dir.liveness_files() {
        std::fs::remove_file(file).unwrap();
    }
    let process = dir.process();
    assert!(process.busy_for("r") > Duration::from_secs(50));
    holder.kill();
    assert!(process.busy_for("r") > Duration::from_secs(50), "nothing proves its death");
}

#[test]
fn a_live_holder_whose_file_was_replaced_keeps_its_lease() {
    let dir = TestDir::new();
    let mut holder = ChildProcess::start("holder", &dir.path);
    holder.read_report();
    let file = dir.liveness_files().remove(0);
    // As restoring a backup does: the same name, another inode, and not locked.
    std::fs::rename(&file, file.with_extension("old")).unwrap();
    File::create(&file).unwrap();
    let process = dir.process();
    assert!(process.busy_for("r") > Duration::from_secs(50));
}

#[test]
fn leases_that_a_manager_leaves_are_free_when_its_process_ends() {
    for end in ["drops", "closes"] {
        let dir = TestDir::new();
        let mut holder = ChildProcess::start(&format!("holder that {end}"), &dir.path);
        holder.read_report();
        let process = dir.process();
        assert!(process.busy_for("r") > Duration::from_secs(50), "{end}: a user may have kept the token");
        holder.kill();
        assert_eq!(process.inspect("r").unwrap(), None, "{end}");
        process.acquire(&["r"], 60_000);
    }
}

#[test]
fn a_repeated_batch_counts_its_releases_once() {
    let dir = TestDir::new();
    let process = dir.process();
    let (first, _second) = (process.acquire(&["first"], 60_000), process.acquire(&["second"], 60_000));
    let unreadable = "INSERT INTO leases VALUES ('unreadable', 1, x'00', 1, 1, NULL, NULL)";
    dir.raw().execute(unreadable, []).unwrap();
    let done = process.start(move |backend| async move {
        let (ttl, requested) = (Ttl::from_millis(1000).unwrap(), request(&["unreadable"], 1000));
        tokio::join!(backend.release(&first.resources, first.owner, ttl, None), backend.acquire(&requested))
    });
    let (released, refused) = done.unwrap().recv().unwrap();
    assert!(released.unwrap() && refused.is_err());
    process.close();
    assert_eq!(
        dir.liveness_files().len(),
        1,
        "the second lease is still active, for as long as this process runs"
    );
}

#[test]
fn a_manager_that_leaves_no_lease_removes_its_file() {
    let dir = TestDir::new();
    for ttl_ms in [10, 60_000] {
        let process = dir.process();
        let lease = process.acquire(&["r"], ttl_ms);
        if ttl_ms == 10 {
            std::thread::sleep(Duration::from_millis(11)); // expires, and is not released
        } else {
            assert!(process.release(&lease).unwrap());
        }
        process.close();
        assert_eq!(dir.names(), ["locks.sqlite"]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_copy_in_this_process_is_refused() {
    let dir = TestDir::new();
    let process = dir.process();
    process.connect().unwrap();
    process.close();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let namespace = namespace.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']').to_owned();
    let marker = |pid: u32| {
        let name = format!("locks.sqlite-live-{namespace}-{pid}-00000000000000aa");
        let path = dir.path.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        (path, file)
    };
    let (path, copy) = marker(std::process::id());
    copy.try_lock().unwrap();
    let process = dir.process();
    let error = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("another copy of fencelock in this process"), "{error}");
    assert_eq!(dir.liveness_files(), [path.as_path()], "our own file is removed again");

    // A file that an earlier process with our pid left does not count.
    copy.unlock().unwrap();
    assert!(matches!(process.backend.acquire_sync(&request(&["r"], 1000)), Ok(Attempt::Granted(_))));
    assert!(is_reaped(&path));

    // Another live process does not count either.
    let (_, other) = marker(std::process::id() + 1);
    other.try_lock().unwrap();
    dir.process().connect().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn refusing_a_second_copy_keeps_its_locks() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let dir = TestDir::new();
    dir.process().connect().unwrap();
    let database = OpenOptions::new().read(true).write(true).open(&dir.path).unwrap();
    let is_locked = || fcntl_lock(&database, FlockOperation::NonBlockingLockExclusive).is_err();
    let mut copy = ChildProcess::start("second copy", &dir.path);
    assert_eq!(copy.read_report(), "UNSUPPORTED");
    assert!(is_locked());
    copy.resume();
    assert_eq!(copy.read_report(), "dropped");
    assert!(!is_locked(), "so this test can fail");
}
