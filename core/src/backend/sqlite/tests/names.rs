//! Ways to reach one file by different names, on which its neighbours would not be the same.
#![cfg(target_os = "linux")]

use crate::backend::contract::{Attempt, SyncBackend};
use std::fs::File;

use super::roles::Actor;
use super::{Place, request};

#[test]
fn a_file_with_hard_links_is_refused_by_every_name() {
    let place = Place::new();
    let process = place.process();
    process.acquire(&["r"], 60_000);
    process.close();
    let alias = place.path.with_file_name("alias.sqlite");
    std::fs::hard_link(&place.path, &alias).unwrap();
    for path in [&place.path, &alias] {
        let error = Actor::start("opener", path).hear();
        assert_eq!(error, "UNSUPPORTED", "{path:?}");
    }
    let error = place.process().attempt(&["s"], 1000).unwrap_err();
    assert!(error.to_string().contains("several names (hard links)"), "{error}");
    // Whoever makes a link while it is open, a backup for example, disturbs nobody.
    std::fs::remove_file(&alias).unwrap();
    let process = place.process();
    process.connect().unwrap();
    std::fs::hard_link(&place.path, &alias).unwrap();
    assert!(matches!(process.backend.acquire_sync(&request(&["s"], 1000)), Ok(Attempt::Granted(_))));
}

#[test]
fn a_file_that_is_mounted_by_itself_is_refused() {
    let (place, container) = (Place::new(), Place::new());
    place.process().acquire(&["r"], 60_000);
    File::create(&container.path).unwrap();
    let Some(mut inside) = Actor::start_with_mount("opener", &place.path, &container.path) else {
        eprintln!("left out: this user may not mount");
        return;
    };
    assert_eq!(inside.hear(), "UNSUPPORTED");
    assert_eq!(container.names(), ["locks.sqlite"], "nothing is left behind");
}
