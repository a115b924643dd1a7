//! The permissions that a Redis user needs, as rules of its ACL; `docs/guide/permissions.md` lists them, too.

/// The commands for which a user of the servers with the data needs permission, called by clients or scripts.
/// Not among them is what fencelock can do without.
const DATA: &str = "+ping +eval +evalsha +time +exists +get +mget +set +del +pttl +pexpire +zadd +zrem +zscore \
    +zrangebyscore +zrevrangebyscore +subscribe +publish +wait";
/// In addition, for nodes of a cluster.
const OF_CLUSTER: &str = "+cluster|slots +asking";
/// Likewise, for some options and calls.
const OF_OPTIONS: &str = "+waitaof for fsync, +scan for list()";

/// What a user of Sentinels needs.
const SENTINEL: &str = "&+switch-master &+promoted-slave &+config-update-from &+reset-master +ping +subscribe \
    +sentinel|get-master-addr-by-name +sentinel|master +sentinel|sentinels +sentinel|myid";

/// Where a user logs in, which decides what it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Login<'a> {
    Data { prefix: &'a str, of_cluster: bool },
    Sentinel,
}

impl Login<'_> {
    fn rules(self) -> String {
        match self {
            Self::Data { prefix, of_cluster } => {
                let of_cluster = if of_cluster { format!(" {OF_CLUSTER}") } else { String::new() };
                format!("~{prefix}:* &{prefix}:wake:* {DATA}{of_cluster}, and {OF_OPTIONS}")
            }
            Self::Sentinel => SENTINEL.to_owned(),
        }
    }
}

/// Whether an error is about a permission. What is said of a command in a script differs between versions.
pub(crate) fn is_about(said: &str) -> bool {
    said.starts_with("NOPERM")
        || said.contains("ACL failure")
        || said.contains("The user executing the script can't")
}

/// What to do about this error.
pub(crate) fn remedy(login: Login<'_>, said: &str) -> String {
    let lacks = if said.contains("key") {
        match login {
            Login::Data { prefix, .. } => format!("~{prefix}:*"),
            Login::Sentinel => String::new(),
        }
    } else if let Some(command) = command_in(said) {
        rule_for(login, command)
    } else {
        String::new()
    };
    advice(login, &lacks)
}

/// What to do if these commands are forbidden.
pub(crate) fn remedy_for(login: Login<'_>, commands: &[String]) -> String {
    let rules: Vec<_> =
        commands.iter().map(|command| rule_for(login, &command.to_ascii_lowercase())).collect();
    advice(login, &rules.join(" "))
}

fn advice(login: Login<'_>, lacks: &str) -> String {
    let rules = login.rules();
    match lacks {
        "" => format!("allow the user what it needs: {rules}"),
        lacks => format!("allow the user {lacks}; all that it needs: {rules}"),
    }
}

/// The command that an error names, as in "no permissions to run the 'config|get' command".
fn command_in(said: &str) -> Option<&str> {
    said.split_once("to run the '")?.1.split_once('\'').map(|(command, _)| command)
}

/// The rule that allows a command. Before Redis 7, errors do not name the subcommand.
fn rule_for(login: Login<'_>, command: &str) -> String {
    let whole = format!("+{command}");
    let one = format!("+{command}|");
    let rules = login.rules();
    rules.split([' ', ',']).find(|rule| rule.starts_with(&one)).map_or(whole, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Login<'_> = Login::Data { prefix: "p", of_cluster: false };
    const NODE: Login<'_> = Login::Data { prefix: "p", of_cluster: true };

    #[test]
    fn the_rule_that_is_missing_is_named_if_the_server_names_it() {
        for (login, said, lacks) in [
            (
                SERVER,
                "NOPERM this user has no permissions to run the 'ping' command or its subcommand",
                "+ping;",
            ),
            (SERVER, "NOPERM User u has no permissions to run the 'evalsha' command", "+evalsha;"),
            (
                SERVER,
                "ERR ACL failure in script: User u has no permissions to run the 'get' command",
                "+get;",
            ),
            (SERVER, "NOPERM No permissions to access a key", "~p:*;"),
            (
                SERVER,
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                "~p:*;",
            ),
            (
                SERVER,
                "ERR The user executing the script can't run this command or subcommand",
                "what it needs:",
            ),
            (NODE, "NOPERM this user has no permissions to run the 'cluster' command", "+cluster|slots;"),
            (
                Login::Sentinel,
                "NOPERM this user has no permissions to run the 'sentinel' command or its subcommand",
                "+sentinel|get-master-addr-by-name;",
            ),
        ] {
            assert!(is_about(said), "{said}");
            let remedy = remedy(login, said);
            assert!(remedy.starts_with(&format!("allow the user {lacks}")), "{said}: {remedy}");
        }
    }

    #[test]
    fn what_is_needed_depends_on_the_server() {
        let all = |login| remedy(login, "NOPERM");
        assert!(all(SERVER).contains("~p:* &p:wake:* +ping") && all(SERVER).contains("+wait,"));
        assert!(!all(SERVER).contains("cluster") && !all(SERVER).contains("sentinel"));
        assert!(all(NODE).contains("+cluster|slots +asking"));
        assert!(all(Login::Sentinel).contains("+sentinel|myid") && !all(Login::Sentinel).contains("+eval"));
        assert!(!is_about("ERR unknown command 'EVALSHA'"));
    }
}
