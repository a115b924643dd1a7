//! What a grant or an extension needs in order to count, and the command that asks for it: WAIT, or WAITAOF
//! if it must be on disk.

use super::expected::ExpectedReply;
use crate::backend::redis::protocol::packer::Packer;
use crate::lease::AckPolicy;

/// What must have a write before it counts, in addition to the memory of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Proof {
    /// This many replicas.
    pub replicas: u32,
    /// The disks of the primary and of these replicas.
    pub fsync: bool,
}

/// What has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Received {
    /// This many replicas.
    pub replicas: u32,
    /// The disk of the primary; known only if it was asked for.
    pub on_disk: bool,
}

impl Proof {
    pub const NONE: Self = Self { replicas: 0, fsync: false };

    pub const fn of(acks: AckPolicy) -> Self {
        Self { replicas: acks.required, fsync: acks.fsync }
    }

    /// Whether the server must be asked at all.
    pub const fn is_needed(self) -> bool {
        self.replicas > 0 || self.fsync
    }

    pub const fn is_met_by(self, received: Received) -> bool {
        received.replicas >= self.replicas && (received.on_disk || !self.fsync)
    }

    /// The command that asks for it.
    pub const fn command(self) -> &'static str {
        if self.fsync { "WAITAOF" } else { "WAIT" }
    }

    /// Appends the command to `out`. It covers what its connection wrote before, and takes this long at most.
    pub fn pack(self, timeout_ms: u32, packer: &mut Packer, out: &mut Vec<u8>) {
        if self.fsync {
            packer.command(out, ExpectedReply::Pair, |cmd| {
                cmd.arg("WAITAOF").arg(1).arg(self.replicas).arg(timeout_ms);
            });
        } else {
            packer.command(out, ExpectedReply::Integer, |cmd| {
                cmd.arg("WAIT").arg(self.replicas).arg(timeout_ms);
            });
        }
    }
}
