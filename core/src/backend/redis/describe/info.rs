//! What a primary says about itself, and what that means for its locks.

use std::str::FromStr;

use super::failure_modes::survives;
use crate::backend::guarantees::Guarantee;
use crate::backend::guarantees::{ServerInfo, Skew};
use crate::backend::redis::config::Config;

/// How many replicas are connected and up to date, out of INFO replication.
pub(crate) fn connected(info: &str) -> u32 {
    let online = |line: &&str| {
        line.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            && line.contains("state=online")
    };
    info.lines().filter(online).count() as u32
}

/// What was asked for beside INFO. `None` is what the server did not tell.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// CONFIG's `save`: empty for no snapshots.
    pub save: Option<String>,
    /// CONFIG's `appendfsync`.
    pub fsync: Option<String>,
    pub skew: Option<Skew>,
}

/// Clocks that differ by more than this are told of.
const SKEW_MICROS: u64 = 1_000_000;

/// What the deployment guarantees, out of the sections replication, server, memory and persistence of INFO, to locks that
/// ask for so many acknowledgements.
pub(crate) fn judge(config: &Config, info: &str, asked: Asked, acks: u32) -> Guarantee {
    let declared = config.replicas;
    let connected = connected(info);
    let server = server(info, asked);
    let version = server.version.as_deref().unwrap_or("of unknown version");
    let proof = if declared == 0 {
        "A lease lives in the memory of one server".to_owned()
    } else {
        format!(
            "A lease counts only when as many of the {declared} declared replicas as it asks for have it in memory \
             too; otherwise it is rolled back"
        )
    };
    Guarantee {
        summary: format!(
            "{} {version} at {}. {proof}. At most one holder, as long as the primary keeps its data or a \
             replica that acknowledged takes its place: replication is asynchronous, and a failover may choose \
             another. Fencing tokens rise also when the stored one is lost, as long as the clock of the new primary \
             is not behind the last token; `minToken` closes that gap. What must never be written twice needs a \
             guard that checks the token.",
            server.product, config.address
        ),
        replicas_declared: Some(declared),
        replicas_connected: Some(connected),
        warnings: warnings(&server, acks, declared, connected),
        survives: survives(&server, acks, declared, connected),
        server: Some(server),
        file: None,
    }
}

fn server(info: &str, Asked { save, fsync, skew }: Asked) -> ServerInfo {
    let field = |name: &str| value(info, name);
    let owned = |name: &str| field(name).map(str::to_owned);
    ServerInfo {
        product: if field("valkey_version").is_some() { "Valkey" } else { "Redis" },
        version: owned("valkey_version").or_else(|| owned("redis_version")),
        is_primary: field("role").map(|role| role == "master"),
        aof: field("aof_enabled").map(|enabled| enabled == "1"),
        fsync,
        rdb: save.map(|points| !points.is_empty()),
        eviction_policy: owned("maxmemory_policy"),
        max_memory: field("maxmemory").and_then(|bytes| u64::from_str(bytes).ok()),
        skew,
    }
}

fn warnings(server: &ServerInfo, acks: u32, declared: u32, connected: u32) -> Vec<String> {
    let mut warnings = Vec::new();
    if server.is_primary == Some(false) {
        warnings.push("this server is a replica: it grants no locks; use the URL of its primary".to_owned());
    } else if connected > declared {
        warnings.push(format!(
            "{connected} replicas are connected, {declared} declared: one that would never become the primary \
             (priority 0, change-data capture, a backup) may acknowledge instead of one that would; declare all \
             replicas, and ask for as many acknowledgements as leave no such case"
        ));
    } else if connected < declared {
        warnings.push(format!(
            "{connected} of {declared} declared replicas are connected: locks that ask for more acknowledgements \
             are refused; bring the others back, or correct `replicas`"
        ));
    }
    if declared == 0 {
        warnings.push(
            "no replicas are declared: nothing outlives this server; fit for development, or where a lock that is \
             lost with its server does no harm"
                .to_owned(),
        );
    } else if acks == 0 {
        warnings.push(format!(
            "locks are granted without proof by default: defaults.acks is 0, so none of the {declared} declared replicas \
             need have a lease when the primary dies; use defaults: {{ acks: 'all' }} or 'majority', or give acks to each \
             acquire"
        ));
    }
    if (server.aof, server.rdb) == (Some(false), Some(false)) && server.is_primary != Some(false) {
        warnings.push(
            "persistence is off (neither appendonly nor save): a primary that restarts comes back empty, and its replicas \
             empty themselves after it; turn appendonly on, or let nothing restart it by itself"
                .to_owned(),
        );
    }
    let limited = server.max_memory.is_some_and(|bytes| bytes > 0);
    if let Some(policy) = server.eviction_policy.as_ref().filter(|policy| limited && *policy != "noeviction")
    {
        warnings.push(format!(
            "maxmemory-policy is {policy}: the server may evict locks that are held; use noeviction"
        ));
    }
    if let Some(skew) = server.skew.filter(|skew| skew.at_least() > SKEW_MICROS) {
        let (by, way) = (skew.ahead_micros.unsigned_abs() as f64 / 1e6, skew.ahead_micros > 0);
        warnings.push(format!(
            "the clock of the server is {by:.1} s {} this host's: one of them is wrong. Leases do not mind, but tokens come \
             from it: after a failover to a server whose clock is behind, or after a move between SQLite and Redis, new ones \
             can be lower than old ones; let all hosts follow the same time servers",
            if way { "ahead of" } else { "behind" }
        ));
    }
    warnings
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::config::Options;

    fn config(replicas: u32) -> Config {
        Config::new(Options {
            url: "redis://:hunter2@localhost".into(),
            replicas,
            username: None,
            password: None,
            db: None,
            tls: None,
            connect_timeout_ms: 1,
            command_timeout_ms: 1,
            prefix: "p".into(),
        })
        .unwrap()
    }

    const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
        slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        slave2:ip=10.0.0.3,port=6379,state=online,offset=1,lag=1\r\n\
        # ServerInfo\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";

    #[test]
    fn counts_the_replicas_that_can_acknowledge() {
        assert_eq!(connected(INFO), 2);
        assert_eq!(connected("role:master\r\nconnected_slaves:0\r\nslave_read_only:1\r\n"), 0);
    }

    #[test]
    fn as_declared_there_is_nothing_to_warn_of_and_no_secret_shown() {
        let guarantee = judge(&config(2), INFO, Asked::default(), 2);
        assert_eq!(guarantee.warnings, Vec::<String>::new());
        assert_eq!((guarantee.replicas_declared, guarantee.replicas_connected), (Some(2), Some(2)));
        assert!(guarantee.summary.contains("Redis 7.0.15 at localhost:6379"), "{}", guarantee.summary);
        assert!(!format!("{guarantee:?}").contains("hunter2"));
    }

    #[test]
    fn warns_of_more_fewer_and_no_replicas_of_replicas_and_of_eviction() {
        let one = |config: &Config, info: &str| judge(config, info, Asked::default(), 1).warnings.remove(0);
        assert!(one(&config(1), INFO).contains("may acknowledge instead"));
        assert!(one(&config(3), INFO).contains("2 of 3 declared"));
        assert!(one(&config(0), &INFO.replace("online", "offline")).contains("no replicas are declared"));
        assert!(one(&config(2), &INFO.replace("role:master", "role:slave")).contains("is a replica"));
        assert!(one(&config(2), &INFO.replace("maxmemory:0", "maxmemory:1048576")).contains("noeviction"));
    }

    #[test]
    fn reads_what_the_server_says_of_itself() {
        let info = INFO.replace("# Memory", "# Persistence\r\naof_enabled:1\r\n# Memory");
        let skew = Skew { ahead_micros: 5, error_micros: 1 };
        let asked = |save: &str| Asked {
            save: Some(save.to_owned()),
            fsync: Some("everysec".to_owned()),
            skew: Some(skew),
        };
        let server = judge(&config(2), &info, asked("3600 1"), 2).server.unwrap();
        assert_eq!(
            server,
            ServerInfo {
                product: "Redis",
                version: Some("7.0.15".to_owned()),
                is_primary: Some(true),
                aof: Some(true),
                fsync: Some("everysec".to_owned()),
                rdb: Some(true),
                eviction_policy: Some("allkeys-lru".to_owned()),
                max_memory: Some(0),
                skew: Some(skew),
            }
        );
        assert_eq!(judge(&config(2), &info, asked(""), 2).server.unwrap().rdb, Some(false));
        let valkey =
            info.replace("redis_version", "server_name:valkey\r\nvalkey_version:9.1.0\r\nredis_version");
        let server = judge(&config(2), &valkey, Asked::default(), 2).server.unwrap();
        assert_eq!((server.product, server.version.as_deref()), ("Valkey", Some("9.1.0")));
        let silent = judge(&config(2), "", Asked::default(), 2).server.unwrap();
        assert_eq!(silent, ServerInfo { product: "Redis", ..ServerInfo::default() });
    }

    #[test]
    fn warns_of_missing_proof_missing_persistence_and_clocks_that_differ() {
        let of = |info: &str, asked, acks| judge(&config(2), info, asked, acks).warnings;
        assert!(of(INFO, Asked::default(), 0)[0].contains("without proof"));
        let off = INFO.replace("# Memory", "aof_enabled:0\r\n# Memory");
        let save = |points: &str| Asked { save: Some(points.to_owned()), ..Asked::default() };
        assert!(of(&off, save(""), 2)[0].contains("comes back empty"));
        assert_eq!(of(&off, save("3600 1"), 2), Vec::<String>::new());
        assert_eq!(of(&off, Asked::default(), 2), Vec::<String>::new(), "nobody knows");
        let skewed = |ahead_micros, error_micros| {
            let skew = Some(Skew { ahead_micros, error_micros });
            of(INFO, Asked { skew, ..Asked::default() }, 2).join("")
        };
        assert!(skewed(3_200_000, 1000).contains("3.2 s ahead of"));
        assert!(skewed(-1_500_000, 1000).contains("1.5 s behind"));
        assert_eq!(skewed(900_000, 1000), "");
        assert_eq!(skewed(2_000_000, 1_500_000), "", "the round trip was too long to tell");
    }
}
