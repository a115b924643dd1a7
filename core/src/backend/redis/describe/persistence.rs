//! What a primary has after its process died or its power failed.

use super::asked::Asked;
use crate::backend::guarantees::ServerInfo;

/// The leases that a server has when it comes back.
pub(super) enum Recovered {
    /// All that it granted.
    All,
    /// Less; completes the sentence "the primary comes back …".
    Partly(&'static str),
}

/// After its process died.
pub(super) fn after_crash(server: &ServerInfo, asked: &Asked) -> Recovered {
    // WAITAOF counts nothing that has not been written to the file.
    if asked.fsync && server.aof != Some(false) && server.fsync.as_deref() != Some("no") {
        return Recovered::All;
    }
    after_power_loss(server, asked)
}

/// After its power failed.
pub(super) fn after_power_loss(server: &ServerInfo, asked: &Asked) -> Recovered {
    match (server.aof, server.fsync.as_deref(), server.rdb) {
        (Some(true), Some("always"), _) => Recovered::All,
        (Some(true), Some("everysec"), _) if asked.fsync => Recovered::Partly(
            "without the last second, although fsync is required, where the server says too early that a lease \
             is on disk",
        ),
        (Some(true), Some("everysec"), _) => Recovered::Partly("without the last second or two"),
        (Some(true), Some(_), _) => Recovered::Partly("without what the system had not written to disk yet"),
        (Some(true), None, _) => Recovered::Partly("without the newest writes, unless appendfsync is always"),
        (Some(false), _, Some(true)) => Recovered::Partly("as of its last snapshot"),
        (Some(false), _, Some(false)) => Recovered::Partly("empty"),
        _ => Recovered::Partly("with what its persistence kept, which cannot be seen from here"),
    }
}

/// What to look at.
pub(super) fn warnings(server: &ServerInfo, asked: &Asked) -> impl Iterator<Item = String> {
    off_warning(server).into_iter().chain(fsync_warning(server, asked))
}

fn off_warning(server: &ServerInfo) -> Option<String> {
    let is_off = (server.aof, server.rdb) == (Some(false), Some(false)) && server.is_primary != Some(false);
    is_off.then(|| {
        "persistence is off (neither appendonly nor save): a primary that restarts comes back empty, and its \
         replicas then delete their data too; turn appendonly on, or do not restart it automatically"
            .to_owned()
    })
}

fn fsync_warning(server: &ServerInfo, asked: &Asked) -> Option<String> {
    if !asked.fsync {
        return None;
    }
    let warning = match (server.aof, server.fsync.as_deref()) {
        (Some(false), _) => {
            "defaults.fsync is true, and the primary writes no append-only file: it grants no lock that \
             requires fsync; turn appendonly on, or leave out fsync"
        }
        (_, Some("everysec")) => {
            "defaults.fsync is true, and the primary's appendfsync is everysec: Valkey up to 9.1 and some \
             versions of Redis 7.4 say up to a second too early that a lease is on disk, so a power loss can \
             take it; use appendfsync always, on the replicas too"
        }
        (_, Some("no")) => {
            "defaults.fsync is true, and the primary's appendfsync is no: it never says that a lease is on disk, \
             so it grants no lock that requires fsync; use appendfsync always"
        }
        _ => return None,
    };
    Some(warning.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Asked = Asked { acks: 1, fsync: false, declared: 1, connected: Some(1) };
    const FSYNC: Asked = Asked { fsync: true, ..DEFAULT };

    fn server(aof: Option<bool>, fsync: Option<&str>) -> ServerInfo {
        ServerInfo { aof, fsync: fsync.map(str::to_owned), ..ServerInfo::default() }
    }

    #[test]
    fn fsync_warns_unless_each_write_is_flushed_at_once() {
        let of = |aof, fsync, asked| warnings(&server(aof, fsync), asked).collect::<String>();
        for policy in ["always", "everysec", "no"] {
            assert_eq!(of(Some(true), Some(policy), &DEFAULT), "", "it is not asked for");
        }
        assert_eq!(of(Some(true), Some("always"), &FSYNC), "");
        assert!(of(Some(true), Some("everysec"), &FSYNC).contains("up to a second too early"));
        assert!(of(None, Some("everysec"), &FSYNC).contains("use appendfsync always"));
        assert!(of(Some(true), Some("no"), &FSYNC).contains("never says"));
        assert!(of(Some(false), Some("everysec"), &FSYNC).contains("turn appendonly on"));
        assert_eq!(of(Some(true), None, &FSYNC), "", "it cannot be seen");
    }

    #[test]
    fn a_lease_with_fsync_survives_a_crash_and_only_an_honest_flush_survives_a_power_loss() {
        let all = |recovered| matches!(recovered, Recovered::All);
        for (policy, fsync, crash, power) in [
            (Some("always"), &DEFAULT, true, true),
            (Some("everysec"), &DEFAULT, false, false),
            (Some("always"), &FSYNC, true, true),
            (Some("everysec"), &FSYNC, true, false),
            (None, &FSYNC, true, false),
            (Some("no"), &FSYNC, false, false),
        ] {
            let server = server(Some(true), policy);
            assert_eq!(all(after_crash(&server, fsync)), crash, "{policy:?} {}", fsync.fsync);
            assert_eq!(all(after_power_loss(&server, fsync)), power, "{policy:?} {}", fsync.fsync);
        }
        assert!(!all(after_crash(&server(Some(false), Some("always")), &FSYNC)), "no lease is granted");
    }
}
