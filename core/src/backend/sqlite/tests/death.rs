//! How the death of a holder is found out, and what must not be taken for it.

use crate::backend::contract::{Attempt, LockBackend, SyncBackend};
use std::fs::File;
#[cfg(target_os = "linux")]
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use super::roles::Actor;
use super::{Place, request};
#[cfg(target_os = "linux")]
use crate::lease::Ttl;

/// Whether the file goes away, in the background: nobody needs to wait for it.
fn swept(file: &Path) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !file.exists()
    })
}

#[test]
fn a_killed_holder_is_succeeded_at_once() {
    let place = Place::new();
    let mut holder = Actor::start("holder", &place.path);
    let token: u64 = holder.hear().parse().unwrap();
    let process = place.process();
    assert!(process.busy("r") > Duration::from_secs(50), "it lives");
    holder.kill();
    // The store was open before: nothing but the probe of this one row can tell.
    assert_eq!(process.inspect("r").unwrap(), None);
    assert!(process.acquire(&["r"], 60_000).token > token);
}

#[test]
fn the_leases_and_files_of_the_dead_are_cleared_at_open() {
    let place = Place::new();
    let mut holder = Actor::start("holder", &place.path);
    holder.hear();
    let left = place.liveness_files();
    assert_eq!(left.len(), 1);
    holder.kill();
    let process = place.process();
    process.connect().unwrap();
    assert!(swept(&left[0]));
    assert_eq!(place.liveness_files().len(), 1, "our own");
    let held: u32 = place
        .raw()
        .query_row("SELECT count(*) FROM leases WHERE owner IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(held, 0, "freed, not only skipped");
}

#[test]
fn a_living_holder_whose_file_was_deleted_is_not_robbed() {
    let place = Place::new();
    let mut holder = Actor::start("holder", &place.path);
    holder.hear();
    for file in place.liveness_files() {
        std::fs::remove_file(file).unwrap();
    }
    let process = place.process();
    assert!(process.busy("r") > Duration::from_secs(50));
    holder.kill();
    assert!(process.busy("r") > Duration::from_secs(50), "nothing proves its death");
}

#[test]
fn a_living_holder_whose_file_was_replaced_is_not_robbed() {
    let place = Place::new();
    let mut holder = Actor::start("holder", &place.path);
    holder.hear();
    let file = place.liveness_files().remove(0);
    // As a restored backup does: the same name, another inode, and nobody holds it.
    std::fs::rename(&file, file.with_extension("old")).unwrap();
    File::create(&file).unwrap();
    let process = place.process();
    assert!(process.busy("r") > Duration::from_secs(50));
}

#[test]
fn what_a_manager_leaves_is_free_when_its_process_ends() {
    for end in ["drops", "closes"] {
        let place = Place::new();
        let mut holder = Actor::start(&format!("holder that {end}"), &place.path);
        holder.hear();
        let process = place.process();
        assert!(process.busy("r") > Duration::from_secs(50), "{end}: somebody may have kept the token");
        holder.kill();
        assert_eq!(process.inspect("r").unwrap(), None, "{end}");
        process.acquire(&["r"], 60_000);
    }
}

#[test]
fn a_batch_that_is_done_again_counts_its_releases_once() {
    let place = Place::new();
    let process = place.process();
    let (first, _second) = (process.acquire(&["first"], 60_000), process.acquire(&["second"], 60_000));
    let unreadable = "INSERT INTO leases VALUES ('unreadable', 1, x'00', 1, 1, NULL, NULL)";
    place.raw().execute(unreadable, []).unwrap();
    let done = process.start(move |backend| async move {
        let (ttl, asked) = (Ttl::from_millis(1000).unwrap(), request(&["unreadable"], 1000));
        tokio::join!(backend.release(&first.resources, first.owner, ttl), backend.acquire(&asked))
    });
    let (released, refused) = done.unwrap().recv().unwrap();
    assert!(released.unwrap() && refused.is_err());
    process.close();
    assert_eq!(place.liveness_files().len(), 1, "the second still stands, for as long as this process");
}

#[test]
fn a_manager_that_leaves_nothing_takes_its_file_away() {
    let place = Place::new();
    for ttl_ms in [10, 60_000] {
        let process = place.process();
        let lease = process.acquire(&["r"], ttl_ms);
        if ttl_ms == 10 {
            std::thread::sleep(Duration::from_millis(11)); // runs out, and nobody releases it
        } else {
            assert!(process.release(&lease).unwrap());
        }
        process.close();
        assert_eq!(place.names(), ["locks.sqlite"]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_copy_in_this_process_is_refused() {
    let place = Place::new();
    let process = place.process();
    process.connect().unwrap();
    process.close();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let namespace = namespace.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']').to_owned();
    let marker = |pid: u32| {
        let name = format!("locks.sqlite-live-{namespace}-{pid}-00000000000000aa");
        let path = place.path.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        (path, file)
    };
    let (path, copy) = marker(std::process::id());
    copy.try_lock().unwrap();
    let process = place.process();
    let error = process.backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("another copy of fencelock in this process"), "{error}");
    assert_eq!(place.liveness_files(), [path.as_path()], "our own file is gone again");

    // What a former process with our number left is none.
    copy.unlock().unwrap();
    assert!(matches!(process.backend.acquire_sync(&request(&["r"], 1000)), Ok(Attempt::Granted(_))));
    assert!(swept(&path));

    // Another living process is none either.
    let (_, other) = marker(std::process::id() + 1);
    other.try_lock().unwrap();
    place.process().connect().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn refusing_a_second_copy_drops_none_of_its_locks() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let place = Place::new();
    place.process().connect().unwrap();
    let database = OpenOptions::new().read(true).write(true).open(&place.path).unwrap();
    let is_locked = || fcntl_lock(&database, FlockOperation::NonBlockingLockExclusive).is_err();
    let mut copy = Actor::start("second copy", &place.path);
    assert_eq!(copy.hear(), "UNSUPPORTED");
    assert!(is_locked());
    copy.go_on();
    assert_eq!(copy.hear(), "dropped");
    assert!(!is_locked(), "so this test can fail");
}
