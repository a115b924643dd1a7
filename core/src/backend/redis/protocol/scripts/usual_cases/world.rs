//! Random states of a server, and a call in each.

use redis::Cmd;

use crate::backend::redis::tests::random::Random;

/// The time in all scripts (µs), and as their TIME has it: the second one has fewer digits, and in the last
/// one there is no next token.
const NOW: u64 = 1_790_000_000_123_456;
pub const TIMES: [(&str, &str); 3] =
    [("1790000000", "123456"), ("1790000000", "3456"), ("9007199255", "123456")];

pub const TTL_MS: u64 = 350_000;
const FENCE_MS: u64 = 604_850_000;

const OWNERS: [&str; 3] = [
    "0123456789abcdef0123456789abcdef",
    "11111111111111111111111111111111",
    "22222222222222222222222222222222",
];
const PROCESSES: [&str; 2] = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"];

/// What the server does not allow while the scripts run.
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    Nothing,
    /// It has no memory left.
    Memory,
    /// It is a replica.
    Writes,
    /// The user may not run this.
    Command(&'static str),
    /// The user may run SET for some keys only: the place of the rule in `SET_RULES`.
    Keys(usize),
}

pub const COMMANDS: [&str; 8] = ["exists", "get", "mget", "set", "del", "pttl", "zrem", "time"];

/// For which keys the user may run SET: all locks with one fence, and all fences with one lock.
pub const SET_RULES: [&str; 2] = ["(+set ~*:lock ~{0}:fence)", "(+set ~*:fence ~{0}:lock)"];

pub fn words(line: &str) -> Cmd {
    let mut cmd = Cmd::new();
    line.split(' ').for_each(|word| {
        cmd.arg(word);
    });
    cmd
}

/// What is in the server before a call, the call, and how it is refused.
pub struct World {
    pub state: Vec<Cmd>,
    pub names: usize,
    /// Whether a lock ends just before the call.
    pub ends: bool,
    pub release: bool,
    pub time: usize,
    pub refusal: Refusal,
    pub keys: Vec<String>,
    pub args: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let names = 1 + random.below(6);
        let refusal = match random.below(16) {
            0 => Refusal::Memory,
            1 => Refusal::Writes,
            2 => Refusal::Command(COMMANDS[random.below(COMMANDS.len())]),
            3 => Refusal::Keys(random.below(SET_RULES.len())),
            _ => Refusal::Nothing,
        };
        let time = if random.one_in(40) { 2 } else { random.below(2) };
        let release = random.one_in(3);
        let mut world = Self {
            state: Vec::new(),
            names,
            ends: false,
            release,
            time,
            refusal,
            keys: Vec::new(),
            args: vec!["77".into()],
        };
        // Most worlds are usual, and in the others little is not: else the usual part would end at once.
        let odd = [usize::MAX, 12, 3][random.below(3)];
        for name in 0..names {
            world.put_lock(&mut random, name, odd);
            world.put_fence(&mut random, name, odd);
            let rarely = if random.one_in(4) { odd } else { odd.saturating_mul(4) };
            world.put_queue(&mut random, name, rarely);
        }
        world.put_call(&mut random, odd);
        world
    }

    fn put(&mut self, line: &str) {
        self.state.push(words(line));
    }

    fn put_lock(&mut self, random: &mut Random, name: usize, odd: usize) {
        let key = format!("{{{name}}}:lock");
        let owner = random.pick(&OWNERS);
        if self.release && !random.one_in(odd) {
            return self.put(&format!("SET {key} {} PX 250000", OWNERS[0]));
        }
        let kinds = if random.one_in(odd) { 8 } else { 4 };
        match random.below(kinds) {
            0 => self.put(&format!("SET {key} {owner} PX {}", 250_000 + 1_000 * name)),
            4 => self.put(&format!("SET {key} {owner}")),
            5 => self.put(&format!("SET {key} {owner} PX 1099511650000")),
            6 => {
                self.put(&format!("SET {key} {owner} PX 1"));
                self.ends = true;
            }
            7 => {
                self.put(&format!("RPUSH {key} {owner}"));
                if random.one_in(2) {
                    self.put(&format!("PEXPIRE {key} 150000"));
                }
            }
            _ => {}
        }
    }

    fn put_fence(&mut self, random: &mut Random, name: usize, odd: usize) {
        let key = format!("{{{name}}}:fence");
        if random.one_in(odd) {
            let far =
                [NOW, NOW, NOW, NOW + 1, NOW + 900_000_000_000_000, (1 << 53) - 2, (1 << 53) - 1, 1 << 53];
            match random.below(6) {
                0..2 => self.put(&format!("SET {key} {} PX 250000", far[random.below(far.len())])),
                2 => self.put(&format!("RPUSH {key} 5")),
                _ => {
                    let texts =
                        ["", "x", " 7", "7 ", "0x10", "1e3", "-7", "7.0", "1.5e15", "nan", "inf", "é\n", "0"];
                    let mut cmd = words(&format!("SET {key}"));
                    cmd.arg(random.pick(&texts));
                    if random.one_in(2) {
                        cmd.arg("PX").arg(250_000);
                    }
                    self.state.push(cmd);
                }
            }
        } else if !random.one_in(3) {
            let kinds = if random.one_in(4) { 4 } else { 3 };
            let token = [NOW - 1, NOW - 5_000_000, 7, NOW][random.below(kinds)];
            self.put(&format!("SET {key} {token} PX 250000"));
        }
    }

    fn put_queue(&mut self, random: &mut Random, name: usize, odd: usize) {
        if !random.one_in(odd) {
            return;
        }
        let key = format!("p:{{{name}}}:line");
        if random.one_in(6) {
            return self.put(&format!("SET {key} x"));
        }
        for process in PROCESSES {
            if random.one_in(2) {
                let alive = if random.one_in(4) { NOW / 1_000 - 5 } else { NOW / 1_000 + 900 };
                self.put(&format!("ZADD {key} {alive} {process}"));
                let (kind, score) = [("f", NOW - 9), ("u", NOW - 9 + 4_000_000_000_000_000)][random.below(2)];
                self.put(&format!("ZADD {key} {score} {process}:{}:{kind}", 1 + random.below(2)));
            }
        }
        if random.one_in(3) {
            self.put(&format!("ZADD {key} -{} offered", NOW + 4_000_000_000_000_000));
        }
    }

    /// Runs of requests, as `Script::pack` has them.
    fn put_call(&mut self, random: &mut Random, odd: usize) {
        let (mut queues, mut next) = (Vec::new(), random.below(self.names));
        let runs = [1, 1, 2, 3][random.below(4)];
        for _ in 0..runs {
            let count = 1 + random.below(4);
            let several = if random.one_in(3) { 1 + random.below(3) } else { 1 };
            let names = several.min(self.names);
            let waits = !self.release && random.one_in(odd);
            self.args.extend([count, names].map(|number| number.to_string()));
            if !self.release {
                let min_token =
                    if random.one_in(odd) { [NOW - 1, NOW, NOW + 50][random.below(3)] } else { 0 };
                self.args.extend([TTL_MS, min_token, FENCE_MS].map(|number| number.to_string()));
                self.args.push(u8::from(waits).to_string());
            }
            for _ in 0..count {
                let first = if random.one_in(8) { random.below(self.names) } else { next };
                let of_lease: Vec<_> = (0..names).map(|step| (first + step) % self.names).collect();
                next = (first + names) % self.names;
                self.keys.extend(of_lease.iter().map(|name| format!("{{{name}}}:lock")));
                if !self.release {
                    self.keys.extend(of_lease.iter().map(|name| format!("{{{name}}}:fence")));
                }
                queues.extend(of_lease.iter().map(|name| format!("p:{{{name}}}:line")));
                self.args.push(if self.release && !random.one_in(odd) {
                    OWNERS[0].into()
                } else {
                    random.pick(&OWNERS).into()
                });
                if waits {
                    self.args.push(format!(
                        "{}:{}:{}",
                        random.pick(&PROCESSES),
                        1 + random.below(2),
                        random.pick(&["f", "u"])
                    ));
                }
            }
        }
        self.keys.extend(queues);
    }
}
