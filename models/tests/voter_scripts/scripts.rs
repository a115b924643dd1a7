//! The product's scripts, and what becomes of them without one of their rules.

use sha1_smol::Sha1;

macro_rules! lua {
    ($path:literal) => {
        include_str!(concat!("../../../core/src/backend/redis/", $path))
    };
}

/// All scripts of one run of a server.
#[derive(Debug, Clone)]
pub struct Scripts {
    run: u32,
    texts: [String; SCRIPTS],
    loaded: [Loaded; SCRIPTS],
}

/// A script as it is loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub body: String,
    pub sha: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Propose,
    Renew,
    Release,
    ForceRelease,
    Agree,
}

const SCRIPTS: usize = 5;
/// Those that are a run's own, so that what was sent before a restart is not executed after it.
pub const OF_A_RUN: [Script; 2] = [Script::Propose, Script::Renew];

impl Scripts {
    pub fn product() -> Self {
        let queue = lua!("protocol/lua/lib/wait_queue.lua");
        let with_queue = |text: &str| format!("{queue}\n{text}");
        Self::of_run(
            0,
            [
                with_queue(lua!("voter/lua/propose.lua")),
                lua!("voter/lua/renew.lua").to_owned(),
                [lua!("protocol/lua/release/usual.lua"), queue, lua!("protocol/lua/release/rest.lua")]
                    .join("\n"),
                with_queue(lua!("protocol/lua/force_release.lua")),
                lua!("voter/lua/agree.lua").to_owned(),
            ],
        )
    }

    /// Those of the product with another text in one place.
    pub fn with(script: Script, before: &str, after: &str) -> Self {
        let mut texts = Self::product().texts;
        let text = &mut texts[script as usize];
        assert_eq!(text.matches(before).count(), 1, "{before:?} is once in {script:?}");
        *text = text.replace(before, after);
        Self::of_run(0, texts)
    }

    /// The same of another run of the server.
    pub fn of_next_run(&self) -> Self {
        Self::of_run(self.run + 1, self.texts.clone())
    }

    fn of_run(run: u32, texts: [String; SCRIPTS]) -> Self {
        let mut loaded = texts.clone().map(|body| Loaded { sha: String::new(), body });
        for script in OF_A_RUN {
            let Loaded { body, .. } = &mut loaded[script as usize];
            *body = format!("-- run {run}\n{body}");
        }
        for Loaded { body, sha } in &mut loaded {
            *sha = Sha1::from(&body).digest().to_string();
        }
        Self { run, texts, loaded }
    }

    pub const fn all(&self) -> &[Loaded] {
        &self.loaded
    }

    pub fn sha(&self, script: Script) -> &str {
        &self.loaded[script as usize].sha
    }
}

/// A rule of a script that is taken away: what is done instead, and the text.
pub type Mutant = (&'static str, Script, &'static str, &'static str);

pub const MUTANTS: &[Mutant] = &[
    ("an equal token is accepted", Script::Propose, "token <= last or", "token < last or"),
    ("a token far behind the clock is accepted", Script::Propose, " or token <= now_us - SLACK", ""),
    ("a low token is told the clock", Script::Propose, "return 3, last end", "return 3, now_us - SLACK end"),
    ("any token ahead is accepted", Script::Propose, "if token > most then return 4, most end", ""),
    (
        "a token that another node told is too far ahead",
        Script::Propose,
        "math.max(last, proposal.known, now_us)",
        "math.max(last, now_us)",
    ),
    ("another owner's lock is taken", Script::Propose, "elseif stored ~= owner then", "elseif false then"),
    (
        "a low token is refused before the holder is told",
        Script::Propose,
        "if held then return 2, -1 - held, last end",
        "if token <= last then return 3, last end if held then return 2, -1 - held, last end",
    ),
    ("a second proposal shortens the lease", Script::Propose, "math.max(ttl_ms, left_ms)", "ttl_ms"),
    (
        "a fence may be gone before its token is behind the clock",
        Script::Propose,
        "text(math.max(fence_ms, (token - now_us) / 1000 + ttl_ms))",
        "text(fence_ms)",
    ),
    ("the queue is passed", Script::Propose, "(waiter or has_waiters)", "false"),
    ("a waiter's place is the node's clock", Script::Propose, "score = place\n", "score = now_us\n"),
    (
        "a waiter with the lock stays in the queue",
        Script::Propose,
        "redis.pcall('ZREM', KEYS[i], waiter)",
        "redis.pcall('EXISTS', KEYS[i])",
    ),
    (
        "another owner's lock is extended",
        Script::Renew,
        "if stored and stored ~= owner then return 3 end",
        "",
    ),
    ("a lock that is free is extended", Script::Renew, "if missing and not heal then return 2 end", ""),
    ("a healed lock counts as extended", Script::Renew, "missing and 2 or 1", "1"),
    (
        "an extension lowers the fence",
        Script::Renew,
        "math.max(stored and tonumber(stored) or 0, token)",
        "token",
    ),
    (
        "an extension shortens the lease",
        Script::Renew,
        "math.max(ttl_ms, redis.call('PTTL', KEYS[i]))",
        "ttl_ms",
    ),
    ("another owner's lock is released", Script::Release, "stored[i] == owner and", "stored[i] and"),
    (
        "another owner's lock is released without waiters",
        Script::Release,
        "if stored[i] ~= owner then usual = false end",
        "",
    ),
    ("another client's note is replaced", Script::Agree, "noted ~= ARGV[2]", "false"),
];
