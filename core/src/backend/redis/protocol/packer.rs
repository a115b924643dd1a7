//! Commands as bytes.

use redis::Cmd;

/// Appends commands to a buffer; reuses the memory in which it builds them.
#[derive(Default)]
pub(crate) struct Packer(Cmd);

impl Packer {
    /// Appends one command to `out`.
    pub fn command(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut Cmd)) {
        self.0.clear();
        fill(&mut self.0);
        self.0.write_packed_command(out);
    }
}
