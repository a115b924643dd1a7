//! Commands as bytes, and what their replies look like.

use std::collections::VecDeque;

use redis::Cmd;

use super::replies::expected::{ExpectedReply, MAX_SHORT_REPLY, ScriptReply};

/// Appends commands to a buffer; reuses the memory in which it builds them. Knows which replies are still to
/// come.
pub(crate) struct Packer {
    cmd: Cmd,
    expected: VecDeque<ExpectedReply>,
    echo: i64,
    /// Whether scripts are called by their text.
    by_text: bool,
}

/// Echoes are below this: a script returns them as doubles.
const ECHO_LIMIT: u64 = 1 << 52;

impl Packer {
    /// The echoes of different connections differ, too: a proxy may mix up its clients.
    pub fn new() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system has random numbers");
        let echo = u64::from_le_bytes(random) % ECHO_LIMIT;
        Self { cmd: Cmd::new(), expected: VecDeque::new(), echo: echo.cast_signed(), by_text: false }
    }

    /// Appends one command to `out`.
    pub fn command(&mut self, out: &mut Vec<u8>, expected: ExpectedReply, fill: impl FnOnce(&mut Cmd)) {
        self.cmd.clear();
        fill(&mut self.cmd);
        self.cmd.write_packed_command(out);
        self.expect(expected);
    }

    /// Appends a command to `out` whose only reply is a published message, unless it fails. An error then
    /// breaks the connection, as a reply without a request.
    pub fn command_without_reply(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Cmd)) {
        self.cmd.clear();
        fill(&mut self.cmd);
        self.cmd.write_packed_command(out);
    }

    /// With `by_text`, calls each script in `pack` by its text, which the server need not know before, and
    /// remembers: EVAL in place of EVALSHA.
    pub fn by_text(&mut self, by_text: bool, pack: impl FnOnce(&mut Self)) {
        self.by_text = by_text;
        pack(self);
        self.by_text = false;
    }

    /// Whether scripts are called by their text.
    pub const fn is_by_text(&self) -> bool {
        self.by_text
    }

    /// Appends one call of a script to `out`. It returns what `fill` gets: a number that tells its reply from
    /// all others.
    pub fn script_call(&mut self, out: &mut Vec<u8>, shape: ScriptReply, fill: impl FnOnce(&mut Cmd, i64)) {
        let echo = self.next_echo();
        self.command(out, ExpectedReply::Script { echo, shape }, |cmd| fill(cmd, echo));
    }

    /// Appends a command whose reply tells that all replies before it are those of the commands before it.
    pub fn echo(&mut self, out: &mut Vec<u8>) {
        let echo = self.next_echo();
        self.command(out, ExpectedReply::Echo(echo), |cmd| {
            cmd.arg("PING").arg(echo);
        });
    }

    /// Appends a command that was built before.
    pub fn built(&mut self, out: &mut Vec<u8>, expected: ExpectedReply, cmd: &Cmd) {
        cmd.write_packed_command(out);
        self.expect(expected);
    }

    /// One more reply is to come.
    pub fn expect(&mut self, expected: ExpectedReply) {
        self.expected.push_back(expected);
    }

    /// What the next reply looks like; `None` if none is to come.
    pub fn next_expected(&mut self) -> Option<ExpectedReply> {
        self.expected.pop_front()
    }

    /// The most memory that the next reply may take, in bytes.
    pub fn max_reply(&self) -> usize {
        self.expected.front().map_or(MAX_SHORT_REPLY, |expected| expected.max_size())
    }

    /// How many replies are to come.
    pub fn missing(&self) -> usize {
        self.expected.len()
    }

    pub fn next_echo(&mut self) -> i64 {
        self.echo = (self.echo + 1) % ECHO_LIMIT.cast_signed();
        self.echo
    }
}
