//! What a primary reports about itself, and what that means for its locks.

use std::str::FromStr;

use std::fmt;

use super::asked::Asked;
use super::clocks::Clocks;
use super::failure_modes::{failure_modes, with_durable_log};
use super::persistence;
use crate::backend::guarantees::{Guarantee, ServerInfo};
use crate::backend::redis::config::Settings;
use crate::lease::{AckPolicy, Ttl};

/// The number of replicas that are connected and up to date, from INFO replication.
pub(crate) fn online_replicas(info: &str) -> u32 {
    let online = |line: &&str| {
        line.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            && line.contains("state=online")
    };
    info.lines().filter(online).count() as u32
}

/// Whether INFO replication is that of a replica.
pub(crate) fn is_replica(info: &str) -> bool {
    value(info, "role") == Some("slave")
}

/// The replies of CONFIG, and of a trial PUBLISH. `None`: the server did not say.
#[derive(Debug, Default)]
pub(crate) struct ConfigReplies {
    /// CONFIG's `save`: empty if the server writes no snapshots.
    pub save: Option<String>,
    /// CONFIG's `appendfsync`.
    pub fsync: Option<String>,
    pub can_publish: Option<bool>,
}

/// What the deployment guarantees to locks that require this. `info`: the sections replication, server,
/// memory and persistence.
pub(crate) fn assess(
    settings: &Settings,
    address: &impl fmt::Display,
    info: &str,
    replies: ConfigReplies,
    (acks, ttl): (AckPolicy, Ttl),
    clocks: &Clocks,
) -> Guarantee {
    let is_visible = value(info, "role").is_some();
    let (declared, connected) = (settings.replicas, is_visible.then(|| online_replicas(info)));
    let asked = Asked { acks: acks.required, fsync: acks.fsync, declared, connected };
    let can_publish = replies.can_publish;
    let server = server_info(info, replies, clocks);
    let mut warnings = warnings(&server, &asked, settings.durable);
    if !is_visible {
        warnings.push(
            "this user or server does not allow INFO: which replicas are connected, whether data is kept on disk \
             and whether locks may be evicted cannot be seen; allow +info"
                .to_owned(),
        );
    }
    warnings.extend(clocks.warnings(ttl.drift()));
    warnings.extend(memory_warning(&server, info));
    warnings.extend(publish_warning(can_publish, &settings.keys.channel_prefix()));
    let version = server.version.as_deref().unwrap_or("of unknown version");
    let survives = failure_modes(&server, &asked, clocks);
    Guarantee {
        summary: format!(
            "{} {version} at {address}. {} Fencing tokens keep rising even if the stored one is lost, as long \
             as the clock of the new primary is not behind the last token; `minToken` closes that gap. Data \
             that must never be written twice needs a guard that checks the token.",
            server.product,
            proof(settings)
        ),
        replicas_declared: Some(declared),
        replicas_connected: connected,
        warnings,
        survives: if settings.durable { with_durable_log(survives) } else { survives },
        server: Some(server),
        file: None,
    }
}

/// What a grant proves, and so how many holders there can be.
fn proof(settings: &Settings) -> String {
    if settings.durable {
        return "A lease counts only once a quorum has it in a log on disk, as `durable` declares. There is at \
                most one holder, also after a failover."
            .to_owned();
    }
    let proof = match settings.replicas {
        0 => "A lease is in the memory of one server".to_owned(),
        declared => format!(
            "A lease counts only once the required number of the {declared} declared replicas have it in \
             memory too; otherwise it is rolled back"
        ),
    };
    format!(
        "{proof}. There is at most one holder, as long as the primary keeps its data or a replica that \
         acknowledged takes its place: replication is asynchronous, and a failover may choose another replica."
    )
}

fn server_info(info: &str, ConfigReplies { save, fsync, .. }: ConfigReplies, clocks: &Clocks) -> ServerInfo {
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
        skew: clocks.primary,
    }
}

fn warnings(server: &ServerInfo, asked: &Asked, durable: bool) -> Vec<String> {
    let Asked { acks, declared, connected, .. } = *asked;
    let mut warnings = Vec::new();
    // Without acknowledgements it does not matter to a durable log how many replicas there are.
    if let Some(connected) = connected
        && (server.is_primary == Some(false) || !durable || acks > 0)
    {
        warnings.extend(replica_warning(server, declared, connected));
    }
    // What a server says about its own disk does not apply to such a log.
    if !durable {
        warnings.extend(proof_warning(acks, declared));
        warnings.extend(persistence::warnings(server, asked));
    }
    warnings.extend(eviction_warning(server));
    warnings
}

/// What a node of a quorum shows; what the quorum guarantees depends on all of them.
pub(crate) fn assess_voter(settings: &Settings, info: &str, replies: ConfigReplies) -> Guarantee {
    let can_publish = replies.can_publish;
    let server = server_info(info, replies, &Clocks::default());
    let warnings = [
        eviction_warning(&server),
        memory_warning(&server, info),
        publish_warning(can_publish, &settings.keys.channel_prefix()),
    ];
    Guarantee {
        replicas_connected: Some(online_replicas(info)),
        warnings: warnings.into_iter().flatten().collect(),
        server: Some(server),
        ..Guarantee::default()
    }
}

fn eviction_warning(server: &ServerInfo) -> Option<String> {
    let limited = server.max_memory.is_some_and(|bytes| bytes > 0);
    let policy = server.eviction_policy.as_ref().filter(|policy| limited && *policy != "noeviction")?;
    Some(format!("maxmemory-policy is {policy}: the server may evict held locks; use noeviction"))
}

fn proof_warning(acks: u32, declared: u32) -> Option<String> {
    if declared == 0 {
        Some(
            "no replicas are declared: no lease outlives this server; suitable for development, or where a \
             lock that is lost with its server does no harm"
                .to_owned(),
        )
    } else if acks == 0 {
        Some(format!(
            "locks are granted without proof by default: defaults.acks is 0, so none of the {declared} \
             declared replicas is required to have a lease when the primary dies; use defaults: {{ acks: \
             'all' }} or 'majority', or pass acks to each acquire"
        ))
    } else {
        None
    }
}

fn replica_warning(server: &ServerInfo, declared: u32, connected: u32) -> Option<String> {
    if server.is_primary == Some(false) {
        Some("this server is a replica: it grants no locks; use the URL of its primary".to_owned())
    } else if connected > declared {
        Some(format!(
            "{connected} replicas are connected, {declared} declared: a replica that never becomes the \
             primary (priority 0, change-data capture, a backup) may acknowledge instead of one that could; \
             declare all replicas, and require enough acknowledgements to rule that out"
        ))
    } else if connected < declared {
        Some(format!(
            "{connected} of {declared} declared replicas are connected: locks that require more \
             acknowledgements are refused; reconnect the others, or correct `replicas`"
        ))
    } else {
        None
    }
}

/// What counts is the memory without the buffers of replicas, as for the server itself.
fn memory_warning(server: &ServerInfo, info: &str) -> Option<String> {
    let bytes = |name: &str| value(info, name).and_then(|bytes| u64::from_str(bytes).ok());
    let limit = server.max_memory.filter(|&limit| limit > 0)?;
    let used = bytes("used_memory")?.saturating_sub(bytes("mem_not_counted_for_evict").unwrap_or(0));
    (used > limit && server.eviction_policy.as_deref() == Some("noeviction")).then(|| {
        format!(
            "the server is at its memory limit (maxmemory is {limit} bytes, {used} are used): it grants no \
             lock until there is room; leases are extended and released as usual; raise maxmemory"
        )
    })
}

fn publish_warning(can_publish: Option<bool>, channel_prefix: &str) -> Option<String> {
    (can_publish == Some(false)).then(|| {
        format!(
            "releases cannot be announced, because this user or server does not allow PUBLISH: those that wait \
             notice a release up to a second later, at their next heartbeat; allow +publish and the channels \
             &{channel_prefix}*"
        )
    })
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::guarantees::{Skew, Verdict};
    use crate::backend::redis::config::{Config, Location, Options};

    fn settings(replicas: u32) -> Arc<Settings> {
        settings_with(replicas, false)
    }

    fn settings_with(replicas: u32, durable: bool) -> Arc<Settings> {
        let location = Location::Url("redis://:hunter2@localhost".into());
        let config = Config::new(Options { replicas, durable, ..Options::new(location) });
        config.unwrap().settings
    }

    fn assess(settings: &Settings, info: &str, replies: ConfigReplies, acks: u32) -> Guarantee {
        assess_with(settings, info, replies, acks, &Clocks::default())
    }

    fn assess_with(
        settings: &Settings,
        info: &str,
        replies: ConfigReplies,
        acks: u32,
        clocks: &Clocks,
    ) -> Guarantee {
        let acks = AckPolicy { required: acks, ..AckPolicy::default() };
        let ttl = Ttl::from_millis(10_000).unwrap();
        super::assess(settings, &"localhost:6379", info, replies, (acks, ttl), clocks)
    }

    const INFO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
        slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        slave2:ip=10.0.0.3,port=6379,state=online,offset=1,lag=1\r\n\
        # Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";

    #[test]
    fn counts_the_replicas_that_can_acknowledge() {
        assert_eq!(online_replicas(INFO), 2);
        assert_eq!(online_replicas("role:master\r\nconnected_slaves:0\r\nslave_read_only:1\r\n"), 0);
    }

    #[test]
    fn a_deployment_as_declared_has_no_warnings_and_shows_no_secret() {
        let guarantee = assess(&settings(2), INFO, ConfigReplies::default(), 2);
        assert_eq!(guarantee.warnings, Vec::<String>::new());
        assert_eq!((guarantee.replicas_declared, guarantee.replicas_connected), (Some(2), Some(2)));
        assert!(guarantee.summary.contains("Redis 7.0.15 at localhost:6379"), "{}", guarantee.summary);
        assert!(!format!("{guarantee:?}").contains("hunter2"));
    }

    #[test]
    fn warns_about_the_number_of_replicas_about_being_a_replica_and_about_eviction() {
        let one = |settings: &Settings, info: &str| {
            assess(settings, info, ConfigReplies::default(), 1).warnings.remove(0)
        };
        assert!(one(&settings(1), INFO).contains("may acknowledge instead"));
        assert!(one(&settings(3), INFO).contains("2 of 3 declared"));
        assert!(one(&settings(0), &INFO.replace("online", "offline")).contains("no replicas are declared"));
        assert!(one(&settings(2), &INFO.replace("role:master", "role:slave")).contains("is a replica"));
        assert!(one(&settings(2), &INFO.replace("maxmemory:0", "maxmemory:1048576")).contains("noeviction"));
    }

    #[test]
    fn a_durable_log_needs_neither_replicas_nor_persistence() {
        let off = INFO.replace("# Memory", "aof_enabled:0\r\n# Memory");
        let replies = || ConfigReplies { save: Some(String::new()), ..ConfigReplies::default() };
        let plain = assess(&settings(0), &off, replies(), 0);
        assert_eq!(plain.warnings.len(), 3, "{:?}", plain.warnings);
        let durable = assess(&settings_with(0, true), &off, replies(), 0);
        assert_eq!(durable.warnings, Vec::<String>::new());
        assert_eq!(durable.survives.failover.verdict, Verdict::Yes);
        assert!(durable.summary.contains("`durable` declares"), "{}", durable.summary);
        let with_acks = assess(&settings_with(3, true), &off, replies(), 3);
        assert!(with_acks.warnings[0].contains("2 of 3"), "{:?}", with_acks.warnings);
        let replica =
            assess(&settings_with(0, true), &off.replace("role:master", "role:slave"), replies(), 0);
        assert!(replica.warnings[0].contains("is a replica"), "{:?}", replica.warnings);
    }

    #[test]
    fn reads_what_the_server_reports_about_itself() {
        let info = INFO.replace("# Memory", "# Persistence\r\naof_enabled:1\r\n# Memory");
        let skew = Skew { ahead_micros: 5, error_micros: 1 };
        let replies = |save: &str| ConfigReplies {
            save: Some(save.to_owned()),
            fsync: Some("everysec".to_owned()),
            can_publish: Some(true),
        };
        let clocks = Clocks { primary: Some(skew), ..Clocks::default() };
        let server = assess_with(&settings(2), &info, replies("3600 1"), 2, &clocks).server.unwrap();
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
        assert_eq!(assess(&settings(2), &info, replies(""), 2).server.unwrap().rdb, Some(false));
        let valkey =
            info.replace("redis_version", "server_name:valkey\r\nvalkey_version:9.1.0\r\nredis_version");
        let server = assess(&settings(2), &valkey, ConfigReplies::default(), 2).server.unwrap();
        assert_eq!((server.product, server.version.as_deref()), ("Valkey", Some("9.1.0")));
        let silent = assess(&settings(2), "", ConfigReplies::default(), 2).server.unwrap();
        assert_eq!(silent, ServerInfo { product: "Redis", ..ServerInfo::default() });
    }

    #[test]
    fn warns_about_a_server_out_of_memory_and_about_a_missing_publish() {
        let of = |info: &str, can_publish| {
            let replies = ConfigReplies { can_publish, ..ConfigReplies::default() };
            assess(&settings(2), info, replies, 2).warnings.join("")
        };
        let full = INFO.replace("maxmemory:0", "maxmemory:1000").replace("allkeys-lru", "noeviction")
            + "used_memory:1500\r\nmem_not_counted_for_evict:400\r\n";
        assert!(of(&full, None).contains("at its memory limit (maxmemory is 1000 bytes, 1100 are used)"));
        assert_eq!(of(&full.replace(":400", ":500"), None), "", "the buffers of replicas do not count");
        assert_eq!(of(INFO, Some(true)), "");
        assert!(of(INFO, Some(false)).contains("&fencelock:wake:*"));
    }

    #[test]
    fn warns_about_missing_proof_and_missing_persistence() {
        let of = |info: &str, replies, acks| assess(&settings(2), info, replies, acks).warnings;
        assert!(of(INFO, ConfigReplies::default(), 0)[0].contains("without proof"));
        let off = INFO.replace("# Memory", "aof_enabled:0\r\n# Memory");
        let save = |points: &str| ConfigReplies { save: Some(points.to_owned()), ..ConfigReplies::default() };
        assert!(of(&off, save(""), 2)[0].contains("comes back empty"));
        assert_eq!(of(&off, save("3600 1"), 2), Vec::<String>::new());
        assert_eq!(of(&off, ConfigReplies::default(), 2), Vec::<String>::new(), "unknown");
    }
}
