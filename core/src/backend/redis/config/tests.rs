//! Which options are taken, and what they come to.

use super::address::Address;
use super::deployment::{ClusterConfig, SentinelConfig};
use super::*;

fn options(url: &str) -> Options {
    Options::new(Location::Url(url.into()))
}

fn listed(urls: &[&str]) -> Options {
    let urls = urls.iter().map(ToString::to_string).collect();
    Options::new(Location::Sentinels(SentinelOptions { urls, name: "main".into() }))
}

fn seeded(urls: &[&str]) -> Options {
    Options::new(Location::Cluster(urls.iter().map(ToString::to_string).collect()))
}

fn address(config: &Config) -> &Address {
    match &config.deployment {
        Deployment::Standalone(address) => address,
        other => panic!("{other:?}"),
    }
}

fn sentinel(options: Options) -> (SentinelConfig, Arc<Settings>) {
    let Config { deployment, settings } = Config::new(options).unwrap();
    match deployment {
        Deployment::Sentinel(config) => (config, settings),
        other => panic!("{other:?}"),
    }
}

fn cluster(options: Options) -> (ClusterConfig, Arc<Settings>) {
    let Config { deployment, settings } = Config::new(options).unwrap();
    match deployment {
        Deployment::Cluster(config) => (config, settings),
        other => panic!("{other:?}"),
    }
}

fn shown(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn is_encrypted(address: &Address) -> bool {
    matches!(address, Address::Tls { .. })
}

fn refused(options: Options) -> String {
    let error = Config::new(options).unwrap_err();
    assert_eq!(error.code(), "INVALID_OPTION");
    error.to_string()
}

#[test]
fn every_form_of_url_is_accepted() {
    let plain = Config::new(options("redis://user:p%40ss@example.test:7000/3")).unwrap();
    assert_eq!(address(&plain).to_string(), "example.test:7000");
    assert_eq!(plain.settings.db, 3);
    let credentials = plain.settings.credentials.current().unwrap();
    assert_eq!(credentials.username.as_deref(), Some("user"));
    assert_eq!(credentials.password.reveal(), "p@ss");

    let bare = Config::new(options("redis://localhost")).unwrap();
    assert_eq!((address(&bare).to_string().as_str(), bare.settings.db), ("localhost:6379", 0));
    assert!(bare.settings.credentials.current().is_none());
    assert!(matches!(address(&Config::new(options("rediss://localhost")).unwrap()), Address::Tls { .. }));
    let six = Config::new(options("redis://[::1]:7000")).unwrap();
    assert_eq!(address(&six).to_string(), "[::1]:7000");
    for scheme in ["redis", "valkey"] {
        let plain = Config::new(options(&format!("{scheme}://10.0.0.1"))).unwrap();
        assert!(matches!(address(&plain), Address::Tcp { .. }), "{scheme}");
    }
    assert!(matches!(address(&Config::new(options("valkeys://localhost")).unwrap()), Address::Tls { .. }));
}

#[cfg(unix)]
#[test]
fn urls_of_unix_sockets_are_accepted() {
    for scheme in ["unix", "redis+unix", "valkey+unix"] {
        let unix = Config::new(options(&format!("{scheme}:///run/redis.sock?db=2&user=u&pass=p"))).unwrap();
        assert_eq!(address(&unix).to_string(), "/run/redis.sock");
        assert_eq!(unix.settings.db, 2);
        assert_eq!(unix.settings.credentials.current().unwrap().username.as_deref(), Some("u"));
    }
}

#[test]
fn options_override_the_url() {
    let mut given = options("redis://user:old@localhost/3");
    given.password = Some("new".into());
    given.db = Some(5);
    let config = Config::new(given).unwrap();
    assert_eq!(config.settings.db, 5);
    assert_eq!(config.settings.credentials.current().unwrap().password.reveal(), "new");
}

#[test]
fn secrets_appear_neither_in_debug_output_nor_in_messages() {
    let mut with_option = options("redis://user:hunter2@localhost");
    with_option.tls = None;
    let shown = format!("{:?}", Config::new(with_option).unwrap());
    assert!(shown.contains("***"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for bad in [
        "redis://user:hunter2@localhost/x",
        "redis://user:hunter2@localhost/-1",
        "redis://user:hunter2#@localhost",
        "redis://user:hunter2@local host",
        "http://user:hunter2@localhost",
        "redis://user:hunter2@0.0.0.0",
        "redis://user:hunter2@localhost?db=1",
        "redis://user:hunter2%ff@localhost",
        "redis+sentinel://user:hunter2@localhost",
        "redis+sentinel://user:hunter2@localhost/main/x",
        "redis+sentinel://user:hunter2@localhost/main/0/0",
        "redis+sentinel://user:hunter2@localhost,/main",
        "redis+sentinel://user:hunter2@localhost:port/main",
        "redis+sentinel://user:hunter2@localhost/main?db=1",
        "redis+sentinel://user:half/hunter2@localhost/main",
        "redis+sentinel://user:half?hunter2@localhost/main",
        "redis+sentinel://user:half#hunter2@localhost/main",
        "redis+sentinel://user:hunter2%ff@localhost/main",
        "redis+sentinel://user:hunter2@localhost/%ff",
        "redis+cluster://user:hunter2@localhost/1",
        "redis+cluster://user:hunter2@::1",
        "redis+cluster://user:hunter2@",
        "redis+unknown://user:hunter2@localhost",
    ] {
        let message = refused(options(bad));
        assert!(!message.contains("hunter2"), "{bad}: {message}");
    }
}

#[test]
fn settings_that_would_be_silently_ignored_are_refused() {
    assert!(refused(options("redis://localhost?db=1")).contains("unknown parameter"));
    assert!(!refused(options("redis://me:half?secret@localhost")).contains("secret"));
    assert!(refused(options("rediss://localhost#insecure")).contains("rejectUnauthorized"));
    assert!(refused(options("redis://user@localhost")).contains("password"));
    let mut unencrypted = options("redis://localhost");
    unencrypted.tls = Some(TlsOptions::default());
    assert!(refused(unencrypted).contains("rediss://"));
    let mut timeless = options("redis://localhost");
    timeless.command_timeout_ms = 0;
    assert!(refused(timeless).contains("commandTimeoutMs"));
    let mut braces = options("redis://localhost");
    braces.prefix = "a{b".into();
    assert!(refused(braces).contains("prefix"));
}

#[test]
fn a_url_of_sentinels_has_their_addresses_and_the_credentials_of_the_servers() {
    for scheme in ["redis", "valkey", "REDIS"] {
        let url = format!("{scheme}+sentinel://me:p%40s,s@one.test,[::1]:7000,10.0.0.3:1/my%2Fmain/3");
        let (config, settings) = sentinel(options(&url));
        assert_eq!(config.name, "my/main");
        assert_eq!(shown(&config.sentinels), ["one.test:26379", "[::1]:7000", "10.0.0.3:1"]);
        assert!(!config.sentinels.iter().any(is_encrypted));
        assert!(config.announced.tls.is_none() && config.announced_sentinels.tls.is_none());
        assert!(config.settings.credentials.current().is_none(), "the Sentinels must not get the password");
        assert_eq!((config.settings.db, settings.db), (0, 3));
        let credentials = settings.credentials.current().unwrap();
        assert_eq!(credentials.username.as_deref(), Some("me"));
        assert_eq!(credentials.password.reveal(), "p@s,s");
    }
    for scheme in ["rediss", "valkeys"] {
        let (config, settings) = sentinel(options(&format!("{scheme}+sentinel://one.test,two.test/main/")));
        assert!(config.sentinels.iter().all(is_encrypted));
        assert!(config.announced.tls.is_some() && config.announced_sentinels.tls.is_some());
        assert!(settings.credentials.current().is_none());
    }
}

#[test]
fn sentinels_and_servers_have_credentials_and_tls_of_their_own() {
    let mut given = listed(&["redis://one.test", "redis://two.test:7000", "redis://one.test:26379"]);
    given.password = Some("for the servers".into());
    given.db = Some(2);
    given.tls = Some(TlsOptions::default());
    given.sentinel_login.password = Some("for the Sentinels".into());
    let (config, settings) = sentinel(given);
    assert_eq!(shown(&config.sentinels), ["one.test:26379", "two.test:7000"], "once each");
    assert_eq!(settings.credentials.current().unwrap().password.reveal(), "for the servers");
    assert_eq!(config.settings.credentials.current().unwrap().password.reveal(), "for the Sentinels");
    assert_eq!((config.settings.db, settings.db), (0, 2));
    assert!(config.announced.tls.is_some() && config.announced_sentinels.tls.is_none());

    let (config, settings) = sentinel(listed(&["rediss://one.test"]));
    assert!(config.sentinels.iter().all(is_encrypted));
    assert!(config.announced_sentinels.tls.is_some() && config.announced.tls.is_none());
    assert!(settings.credentials.current().is_none() && config.settings.credentials.current().is_none());
}

#[test]
fn sentinels_are_refused_with_what_would_be_ignored_or_misused() {
    assert!(refused(listed(&[])).contains("sentinels is empty"));
    assert!(refused(listed(&["redis://:hunter2@one.test"])).contains("sentinelPassword"));
    assert!(!refused(listed(&["redis://:hunter2@one.test"])).contains("hunter2"));
    assert!(refused(listed(&["redis://one.test/1"])).contains("pass it as db"));
    assert!(refused(listed(&["redis://one.test", "rediss://two.test"])).contains("mixes"));
    assert!(refused(options("redis+sentinel://one.test")).contains("redis+sentinel://host:26379/name"));
    let mut nameless = listed(&["redis://one.test"]);
    if let Location::Sentinels(sentinels) = &mut nameless.location {
        sentinels.name.clear();
    }
    assert!(refused(nameless).contains("name"));
    for url in ["redis+sentinel://one.test/main", "redis://one.test", "redis+cluster://one.test"] {
        let mut given = options(url);
        given.sentinel_login.tls = Some(TlsOptions::default());
        assert!(refused(given).contains("sentinelTls"), "{url}");
        let mut given = options(url);
        given.tls = Some(TlsOptions::default());
        assert!(refused(given).contains("rediss://"), "{url}");
    }
    for mut given in [options("redis://one.test"), seeded(&["redis://one.test"])] {
        given.sentinel_login.password = Some("hunter2".into());
        let message = refused(given);
        assert!(message.contains("need Sentinels") && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_cluster_has_several_nodes_with_the_same_credentials() {
    let in_one = options("rediss+cluster://me:secret@one.test,[::1]:7000");
    let in_several = seeded(&["rediss://me:secret@one.test", "valkeys://me:secret@[::1]:7000/0"]);
    for given in [in_one, in_several] {
        let (config, settings) = cluster(given);
        assert_eq!(shown(&config.seeds), ["one.test:6379", "[::1]:7000"]);
        assert!(config.seeds.iter().all(is_encrypted) && config.announced.tls.is_some());
        assert_eq!(settings.credentials.current().unwrap().password.reveal(), "secret");
    }
    let (config, _) = cluster(options("valkey+cluster://one.test"));
    assert!(config.announced.tls.is_none() && !config.seeds.iter().any(is_encrypted));
}

#[test]
fn nodes_of_a_cluster_that_do_not_agree_are_refused() {
    assert!(refused(seeded(&[])).contains("cluster is empty"));
    assert!(refused(seeded(&["redis://one.test", "rediss://two.test"])).contains("mixes"));
    let message = refused(seeded(&["redis://:hunter2@one.test", "redis://two.test"]));
    assert!(message.contains("differ") && !message.contains("hunter2"), "{message}");
    assert!(refused(seeded(&["redis+cluster://one.test"])).contains("redis://"));
    assert!(refused(seeded(&["redis://one.test/1"])).contains("database 0"));
    assert!(refused(options("redis+cluster://one.test/1")).contains("database 0"));
    let mut numbered = seeded(&["redis://one.test"]);
    numbered.db = Some(1);
    assert!(refused(numbered).contains("database 0"));
}

#[cfg(unix)]
#[test]
fn sentinels_and_clusters_have_no_unix_sockets() {
    for given in [listed(&["redis+unix:///run/redis.sock"]), seeded(&["redis+unix:///run/redis.sock"])] {
        assert!(refused(given).contains("Unix socket"));
    }
}

#[test]
fn announced_addresses_are_mapped_for_sentinels_and_clusters_only() {
    let map = || vec![(("10.0.0.1".to_owned(), 6379), ("one.test".to_owned(), 7000))];
    let mapped = |url| Options { node_address_map: map(), ..options(url) };
    let (config, _) = sentinel(mapped("redis+sentinel://one.test/main"));
    for announced in [config.announced, config.announced_sentinels] {
        assert_eq!(announced.address("10.0.0.1", 6379).unwrap().to_string(), "one.test:7000");
    }
    let (config, _) = cluster(mapped("redis+cluster://one.test"));
    assert_eq!(config.announced.address("10.0.0.1", 6379).unwrap().to_string(), "one.test:7000");
    assert!(refused(mapped("redis://one.test")).contains("nodeAddressMap"));
}
