//! The file is deleted or replaced while its leases are held and no call is made.

use std::time::{Duration, Instant};

use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::tests::granted;
use crate::backend::sqlite::tests::{GrantedLease, Process, TestDir, request};

fn is_notified(process: &Process, lease: &GrantedLease) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if process.was_notified_of_loss(lease) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn the_loss_of_the_file_is_noticed_without_a_call() {
    type Fault = fn(&TestDir);
    let faults: [(&str, Fault); 6] = [
        ("deleted", |dir| std::fs::remove_file(&dir.path).unwrap()),
        ("replaced", |dir| {
            let copy = dir.path.with_file_name("copy");
            std::fs::write(&copy, "another").unwrap();
            std::fs::rename(&copy, &dir.path).unwrap();
        }),
        ("its directory is removed", |dir| std::fs::remove_dir_all(dir.directory.path()).unwrap()),
        ("its WAL is deleted", |dir| {
            std::fs::remove_file(dir.path.with_file_name("locks.sqlite-wal")).unwrap();
        }),
        ("emptied", |dir| {
            // By another process, because closing a descriptor would drop SQLite's locks.
            let truncate = std::process::Command::new("truncate").args(["-s", "0"]).arg(&dir.path).status();
            assert!(truncate.unwrap().success());
        }),
        ("a directory takes its place", |dir| {
            std::fs::remove_file(&dir.path).unwrap();
            std::fs::create_dir(&dir.path).unwrap();
        }),
    ];
    // At the same time, because each takes a second.
    std::thread::scope(|scope| {
        for (index, (name, fault)) in faults.into_iter().enumerate() {
            scope.spawn(move || {
                let dir = TestDir::new();
                let process = dir.process();
                let lease = if index % 2 == 0 {
                    process.acquire(&["r"], 60_000)
                } else {
                    let requested = request(&["r"], 60_000);
                    let attempt = process.backend.acquire_sync(&requested).unwrap();
                    granted(requested, attempt)
                };
                fault(&dir);
                assert!(is_notified(&process, &lease), "{name}");
            });
        }
    });
}

#[test]
fn the_file_is_not_watched_when_nothing_is_held() {
    // A lease that expires is not held either, although it is not released.
    for ttl_ms in [60_000, 10] {
        let dir = TestDir::new();
        let process = dir.process();
        let file = process.backend.file().unwrap();
        let lease = process.acquire(&["r"], ttl_ms);
        assert!(file.is_watched());
        if ttl_ms > 10 {
            assert!(process.release(&lease).unwrap());
        }
        let began = Instant::now();
        while file.is_watched() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
        process.acquire(&["r"], 60_000);
        assert!(file.is_watched());
    }
}
