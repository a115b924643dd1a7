//! Something that is not a regular file has the name of one of ours. Every user who may write the
//! directory can put it there.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::backend::contract::SyncBackend;
use crate::backend::sqlite::tests::{TestDir, registry, request};

fn fifo(dir: &TestDir, suffix: &str) -> PathBuf {
    let path = dir.path.with_file_name(format!("locks.sqlite{suffix}"));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// The name of a liveness file of this process and this pid.
fn liveness_name(pid: u32) -> String {
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
    let namespace = namespace.as_deref().and_then(|link| link.to_str()).unwrap_or("pid:[0]");
    let namespace = namespace.trim_start_matches("pid:[").trim_end_matches(']');
    format!("-live-{namespace}-{pid}-00000000000000ab")
}

#[test]
fn a_fifo_named_like_a_liveness_file_blocks_no_process() {
    for pid in [1, std::process::id()] {
        let dir = TestDir::new();
        fifo(&dir, &liveness_name(pid));
        let (one, two) = (dir.process(), dir.process());
        let lease = one.acquire(&["r"], 60_000);
        assert!(!two.busy_for("r").is_zero());
        // The row may name it as well.
        let holder = [vec![0; 24 + 16], vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xab]].concat();
        dir.raw().execute("UPDATE leases SET holder = ?1", [holder]).unwrap();
        fifo(&dir, "-live-0-1-00000000000000ab");
        assert!(!two.busy_for("r").is_zero());
        assert!(one.release(&lease).unwrap());
        two.close();
        one.close();
        // Opened again, its thread looks for the dead.
        dir.process().acquire(&["r"], 1000);
    }
}

#[test]
fn what_sqlite_opens_must_be_regular_files() {
    for suffix in ["-wal", "-shm", "-journal", "-create"] {
        for exists in [false, true] {
            let dir = TestDir::new();
            if exists {
                let process = dir.process();
                process.connect().unwrap();
                process.close();
            }
            if suffix == "-create" && exists {
                continue; // not used any more
            }
            let path = fifo(&dir, suffix);
            let refused =
                || dir.process_in(registry(), &dir.path).backend.acquire_sync(&request(&["r"], 1000));
            let error = refused().unwrap_err();
            assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
            assert!(error.to_string().contains(&format!("locks.sqlite{suffix}")), "{error}");
            assert!(path.exists());
            std::fs::remove_file(&path).unwrap();
            refused().unwrap();
        }
    }
}

#[test]
fn no_link_is_followed() {
    for suffix in ["-create", "-wal", "-shm", "-journal"] {
        let (dir, elsewhere) = (TestDir::new(), TestDir::new());
        symlink(&elsewhere.path, dir.path.with_file_name(format!("locks.sqlite{suffix}"))).unwrap();
        let error = dir.process().backend.acquire_sync(&request(&["r"], 1000)).unwrap_err();
        assert_eq!(error.code(), "BACKEND_UNAVAILABLE", "{error}");
        assert_eq!(elsewhere.names(), [""; 0], "{suffix}");
    }
}
