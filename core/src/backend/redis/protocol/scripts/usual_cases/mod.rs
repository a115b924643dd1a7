//! The usual parts of the scripts change nothing but the time that a call takes: in random states, a script
//! with its usual part does and replies what it does and replies without.

mod mutants;
mod world;

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Connection, ConnectionLike, Value};

use mutants::MUTANTS;
use world::{COMMANDS, Refusal, SET_RULES, TIMES, TTL_MS, World, words};

use super::{ACQUIRE, RELEASE};
use crate::backend::redis::tests::servers::server::{Server, available};

const ACQUIRE_USUAL: &str = include_str!("../../lua/acquire/usual.lua");
/// With what comes before it.
static ACQUIRE_FASTER: LazyLock<String> = LazyLock::new(|| {
    let end = ACQUIRE.body.find(ACQUIRE_USUAL).expect("it is in the script");
    ACQUIRE.body[..end + ACQUIRE_USUAL.len()].to_owned()
});
const RELEASE_USUAL: &str = include_str!("../../lua/release/usual.lua");

const WORLDS: u64 = 3_000;

/// What is left of all times to live is compared in units of this (ms). Those that are set are in the middle
/// of one.
const UNIT_MS: i64 = 100_000;

/// A server with two databases to compare.
struct Comparison {
    _server: Server,
    admin: Connection,
    /// For each database one of a user who may do all, and one for each of those who may do less: who may not
    /// run a command, and who may run SET for some keys only.
    clients: [(Connection, Vec<Connection>); 2],
}

impl Comparison {
    fn new() -> Self {
        let server = Server::start(&[]);
        let mut admin = server.client();
        for command in COMMANDS {
            let rules = format!("ACL SETUSER no-{command} on nopass ~* &* +@all -{command}");
            words(&rules).query::<()>(&mut admin).unwrap();
        }
        for (place, rule) in SET_RULES.iter().enumerate() {
            let user = format!("ACL SETUSER no-{place} on nopass ~* &* +@all");
            words(&user).query::<()>(&mut admin).unwrap();
            // Redis 6 has no rules for a command and keys: there this user may do all.
            let _ = words(&format!("ACL SETUSER no-{place} -set")).arg(rule).query::<()>(&mut admin);
        }
        let clients = [0, 1].map(|database| {
            let client = |without: Option<&str>| {
                let mut client = server.client();
                words(&format!("SELECT {database}")).query::<()>(&mut client).unwrap();
                if let Some(without) = without {
                    words(&format!("AUTH no-{without} x")).query::<()>(&mut client).unwrap();
                }
                client
            };
            let places = (0..SET_RULES.len()).map(|place| place.to_string());
            let limited = COMMANDS.map(str::to_owned).into_iter().chain(places);
            (client(None), limited.map(|without| client(Some(&without))).collect())
        });
        Self { _server: server, admin, clients }
    }

    fn admin(&mut self, line: &str) {
        words(line).query::<()>(&mut self.admin).unwrap();
    }

    /// What these texts of a script reply, and what is then in their databases.
    fn outcomes(&mut self, world: &World, texts: [&str; 2]) -> [String; 2] {
        for (client, _) in &mut self.clients {
            words("FLUSHDB").query::<()>(client).unwrap();
            for cmd in &world.state {
                cmd.query::<()>(client).unwrap();
            }
        }
        match world.refusal {
            Refusal::Memory => self.admin("CONFIG SET maxmemory 1"),
            Refusal::Writes => self.admin("REPLICAOF 127.0.0.1 1"),
            _ => {}
        }
        if world.ends {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut database = 0;
        let replies = texts.map(|text| {
            let mut cmd = Cmd::new();
            cmd.arg("EVAL").arg(at_time(text, world)).arg(world.keys.len()).arg(&world.keys).arg(&world.args);
            let (all, limited) = &mut self.clients[database];
            database += 1;
            let client = match world.refusal {
                Refusal::Command(command) => {
                    &mut limited[COMMANDS.iter().position(|&it| it == command).unwrap()]
                }
                Refusal::Keys(place) => &mut limited[COMMANDS.len() + place],
                _ => all,
            };
            // Not `query`, which shows one of several errors only.
            shown(&client.req_packed_command(&cmd.get_packed_command()).unwrap())
        });
        match world.refusal {
            Refusal::Memory => self.admin("CONFIG SET maxmemory 0"),
            Refusal::Writes => self.admin("REPLICAOF NO ONE"),
            _ => {}
        }
        let mut replies = replies.into_iter();
        [0, 1].map(|database| {
            let mut outcome = replies.next().unwrap();
            let client = &mut self.clients[database].0;
            for name in 0..world.names {
                for key in
                    [format!("{{{name}}}:lock"), format!("{{{name}}}:fence"), format!("p:{{{name}}}:line")]
                {
                    let dump: Option<Vec<u8>> = words(&format!("DUMP {key}")).query(client).unwrap();
                    let left_ms: i64 = words(&format!("PTTL {key}")).query(client).unwrap();
                    let text = dump.map(|dump| String::from_utf8_lossy(&dump).into_owned());
                    write!(outcome, "\n{key} {text:?} for {}", rounded(left_ms)).unwrap();
                }
            }
            outcome
        })
    }
}

fn rounded(ms: i64) -> i64 {
    if ms < 0 { ms } else { ms / UNIT_MS }
}

/// The text of a script in which the time is that of the world: else two calls would get different tokens.
fn at_time(text: &str, world: &World) -> String {
    if matches!(world.refusal, Refusal::Command("time")) {
        return text.to_owned();
    }
    let (seconds, micros) = TIMES[world.time];
    let time = format!("{{ '{seconds}', '{micros}' }}");
    text.replace("try('TIME')", &time).replace("redis.call('TIME')", &time)
}

/// An error without the place in the script where it happened, which the usual part has moved.
fn without_place(error: &str) -> String {
    let mut parts = error.split("user_script:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.trim_start_matches([' ', ':', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']));
    }
    // The script's hash.
    text.split(' ')
        .filter(|word| word.trim_matches([',', ')', ':', 'f', '_']).len() < 38)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A reply in which what a lock has left is rounded.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Int(number @ ..0) => {
            let (place, left) = ((-1 - number) >> 40, rounded((-1 - number) & ((1 << 40) - 1)));
            // Of several that this call has granted, any one may last longest, by a moment.
            if left == rounded(TTL_MS.cast_signed()) {
                format!("busy {left}")
            } else {
                format!("busy {place} {left}")
            }
        }
        Value::ServerError(error) => {
            without_place(&format!("{} {}", error.code(), error.details().unwrap_or_default()))
        }
        value => format!("{value:?}"),
    }
}

/// The script without its usual part, and with what is faster elsewhere done in the usual way.
fn rest_of(body: &str, usual: &str) -> String {
    assert!(body.contains(usual), "the usual part is in the script as it is");
    let rest = body.replace(usual, "").replace("time[1] .. time[2]", "string.format('%.0f', now_us)");
    assert!(!rest.contains(".. time[2]"), "the text of the clock");
    rest
}

/// The seed of the first world in which these texts of the scripts differ from those without a usual part.
fn first_difference(comparison: &mut Comparison, acquire: &str, release: &str) -> Option<(u64, String)> {
    let rests = [rest_of(ACQUIRE.body, ACQUIRE_USUAL), rest_of(RELEASE.body, RELEASE_USUAL)];
    (1..=WORLDS).find_map(|seed| {
        let world = World::new(seed);
        let (text, rest) = if world.release { (release, &rests[1]) } else { (acquire, &rests[0]) };
        let [mine, theirs] = comparison.outcomes(&world, [text, rest]);
        let call = format!("{:?} {:?} {:?} {}", world.keys, world.args, world.refusal, world.time);
        (mine != theirs).then(|| (seed, format!("{call}\nwith its usual part: {mine}\nwithout: {theirs}")))
    })
}

#[test]
fn usual_cases_are_done_as_without_their_own_part() {
    if !available() {
        return;
    }
    let difference = first_difference(&mut Comparison::new(), ACQUIRE.body, RELEASE.body);
    if let Some((seed, what)) = difference {
        panic!("world {seed}: {what}");
    }
}

#[test]
fn usual_cases_that_are_done_wrong_are_noticed() {
    if !available() {
        return;
    }
    let (mut comparison, mut missed) = (Comparison::new(), Vec::new());
    for (what, before, after) in MUTANTS {
        let bodies = [ACQUIRE.body, RELEASE.body];
        let parts = [ACQUIRE_FASTER.as_str(), RELEASE_USUAL];
        let mut count = 0;
        for (script, part) in parts.into_iter().enumerate() {
            for (at, _) in part.match_indices(before) {
                count += 1;
                let mutant = format!("{}{after}{}", &part[..at], &part[at + before.len()..]);
                let mut texts = bodies.map(str::to_owned);
                texts[script] = bodies[script].replace(part, &mutant);
                if first_difference(&mut comparison, &texts[0], &texts[1]).is_none() {
                    missed.push(format!("{what}, in place {count}"));
                }
            }
        }
        assert!(count > 0, "{before:?} is in none of them");
    }
    assert!(missed.is_empty(), "not noticed: {missed:#?}");
}
