//! What a primary says about itself, and what that means for its locks.

use std::str::FromStr;

use super::config::Config;
use crate::backend::Guarantee;

/// How many replicas are connected and up to date, out of INFO replication.
pub(super) fn connected(info: &str) -> u32 {
    let online = |line: &&str| {
        line.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            && line.contains("state=online")
    };
    info.lines().filter(online).count() as u32
}

/// What the deployment guarantees, out of the sections replication, server and memory of INFO.
pub(super) fn judge(config: &Config, info: &str) -> Guarantee {
    let declared = config.replicas;
    let connected = connected(info);
    let field = |name: &str| value(info, name);
    let product = if field("valkey_version").is_some() { "Valkey" } else { "Redis" };
    let version = field("valkey_version").or_else(|| field("redis_version")).unwrap_or("of unknown version");
    let mut warnings = Vec::new();
    if field("role").is_some_and(|role| role != "master") {
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
    }
    let limited =
        field("maxmemory").and_then(|bytes| u64::from_str(bytes).ok()).is_some_and(|bytes| bytes > 0);
    if let Some(policy) = field("maxmemory_policy").filter(|policy| limited && *policy != "noeviction") {
        warnings.push(format!(
            "maxmemory-policy is {policy}: the server may evict locks that are held; use noeviction"
        ));
    }
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
            "{product} {version} at {}. {proof}. At most one holder, as long as the primary keeps its data or a \
             replica that acknowledged takes its place: replication is asynchronous, and a failover may choose \
             another. Fencing tokens rise also when the stored one is lost, as long as the clock of the new primary \
             is not behind the last token; `minToken` closes that gap. What must never be written twice needs a \
             guard that checks the token.",
            config.address
        ),
        replicas_declared: Some(declared),
        replicas_connected: Some(connected),
        warnings,
    }
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::Options;

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
        # Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";

    #[test]
    fn counts_the_replicas_that_can_acknowledge() {
        assert_eq!(connected(INFO), 2);
        assert_eq!(connected("role:master\r\nconnected_slaves:0\r\nslave_read_only:1\r\n"), 0);
    }

    #[test]
    fn as_declared_there_is_nothing_to_warn_of_and_no_secret_shown() {
        let guarantee = judge(&config(2), INFO);
        assert_eq!(guarantee.warnings, Vec::<String>::new());
        assert_eq!((guarantee.replicas_declared, guarantee.replicas_connected), (Some(2), Some(2)));
        assert!(guarantee.summary.contains("Redis 7.0.15 at localhost:6379"), "{}", guarantee.summary);
        assert!(!format!("{guarantee:?}").contains("hunter2"));
    }

    #[test]
    fn warns_of_more_fewer_and_no_replicas_of_replicas_and_of_eviction() {
        let one = |config: &Config, info: &str| judge(config, info).warnings.remove(0);
        assert!(one(&config(1), INFO).contains("may acknowledge instead"));
        assert!(one(&config(3), INFO).contains("2 of 3 declared"));
        assert!(one(&config(0), &INFO.replace("online", "offline")).contains("no replicas are declared"));
        assert!(one(&config(2), &INFO.replace("role:master", "role:slave")).contains("is a replica"));
        assert!(one(&config(2), &INFO.replace("maxmemory:0", "maxmemory:1048576")).contains("noeviction"));
    }
}
