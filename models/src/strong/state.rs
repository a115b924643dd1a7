//! The state of servers and clients; and the steps.

use std::fmt::Write;

use crate::invariant::Invariant;
use crate::ticks::EPOCH;

/// A primary and two replicas.
pub(super) const SERVERS: usize = 3;
/// More writes than a replica is ever behind, within the bounds.
const QUEUE: usize = 8;

/// What a server has stored about the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Data {
    /// The owner; 0: it is free.
    pub(super) lock: u8,
    /// Until when, by the server's clock.
    pub(super) until: u8,
    /// The last token.
    pub(super) fence: u8,
}

/// A server. Writes are counted, as replication offsets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Server {
    pub(super) alive: bool,
    pub(super) primary: bool,
    /// The server that it copies, counted from 1; 0: none.
    pub(super) follows: u8,
    pub(super) data: Data,
    /// How many writes it made as a primary.
    pub(super) written: u8,
    /// How many writes of its primary it has.
    pub(super) copied: u8,
    /// Writes of its primary that are under way to it.
    pub(super) queue: [Data; QUEUE],
    pub(super) queued: u8,
    /// By how much its clock is ahead.
    pub(super) skew: u8,
    /// From when on it takes requests.
    pub(super) ready: u8,
}

impl Server {
    /// A server that has just copied all of its primary.
    pub(super) fn synchronised(primary: usize, data: Data, written: u8, skew: u8) -> Self {
        Self { alive: true, follows: primary as u8 + 1, data, copied: written, skew, ..Self::default() }
    }

    pub(super) const fn is_replica_of(&self, server: usize) -> bool {
        self.follows as usize == server + 1
    }

    pub(super) const fn takes_requests(&self, now: u8) -> bool {
        self.alive && self.primary && now >= self.ready
    }

    /// The writes that are under way to it.
    pub(super) fn pending(&self) -> &[Data] {
        &self.queue[..self.queued as usize]
    }

    pub(super) fn pending_mut(&mut self) -> &mut [Data] {
        &mut self.queue[..self.queued as usize]
    }

    pub(super) const fn enqueue(&mut self, data: Data) {
        self.queue[self.queued as usize] = data;
        self.queued += 1;
    }

    pub(super) fn copy_next(&mut self) {
        self.data = self.queue[0];
        self.queue.copy_within(1.., 0);
        self.queue[QUEUE - 1] = Data::default();
        self.queued -= 1;
        self.copied += 1;
    }

    pub(super) fn drop_queue(&mut self) {
        (self.queue, self.queued) = ([Data::default(); QUEUE], 0);
    }
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// The request was sent.
    Sent,
    /// The lock was written, and the token must be fetched by a second command.
    Locked,
    /// The server carried it out, and its proof is awaited.
    Granted,
    /// The proof is under way to the client.
    Proved,
    /// The client has the lease.
    Holding,
}

/// How far an extension is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Extension {
    /// There is none.
    #[default]
    Idle,
    /// The request was sent.
    Sent,
    /// The server carried it out, and its proof is awaited.
    Done,
    /// The proof is under way to the client.
    Proved,
}

/// An offset that no replica ever acknowledges, because the connection broke.
pub(super) const NEVER: u8 = 99;

/// A client, its requests included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Client {
    pub(super) phase: Phase,
    /// How many attempts it has begun.
    pub(super) started: u8,
    pub(super) server: u8,
    /// The write that must be acknowledged.
    pub(super) offset: u8,
    pub(super) sent: u8,
    pub(super) deadline: u8,
    pub(super) token: u8,
    /// The highest token that had been granted when the attempt began.
    pub(super) floor: u8,
    /// For each attempt the server that its request is under way to, counted from 1; 0: none.
    pub(super) requests: [u8; 2],
    /// For each attempt the owner whose lease it adopts; 0: none.
    pub(super) adopted: [u8; 2],
    /// For each attempt the servers that its deletion is under way to.
    pub(super) deletions: [[bool; SERVERS]; 2],
    /// How many extensions it has begun.
    pub(super) extensions: u8,
    pub(super) extension: Extension,
    pub(super) extension_server: u8,
    pub(super) extension_offset: u8,
    pub(super) extension_sent: u8,
}

impl Client {
    /// The attempt that is under way, or that has the lease.
    pub(super) const fn attempt(&self) -> u8 {
        self.started - 1
    }

    /// Whether this attempt may still write, or have what it wrote undone.
    pub(super) fn is_under_way(&self, attempt: usize) -> bool {
        self.phase != Phase::Idle && usize::from(self.attempt()) == attempt
    }

    pub(super) fn has_valid_lease(&self, now: u8) -> bool {
        self.phase == Phase::Holding && now < self.deadline
    }

    /// Whether the proof of a grant by this server is awaited.
    pub(super) fn awaits_proof(&self, server: usize) -> bool {
        self.phase == Phase::Granted && self.server as usize == server
    }

    /// Whether the proof of an extension by this server is awaited.
    pub(super) fn awaits_extension(&self, server: usize) -> bool {
        self.extension == Extension::Done && self.extension_server as usize == server
    }

    /// Ends the attempt, and lets a deletion go to every server.
    pub(super) fn end(&mut self, delete: bool) {
        let attempt = self.attempt() as usize;
        *self = Self {
            started: self.started,
            requests: self.requests,
            adopted: self.adopted,
            deletions: self.deletions,
            ..Self::default()
        };
        if delete {
            self.deletions[attempt] = [true; SERVERS];
        }
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State<const CLIENTS: usize> {
    pub(super) now: u8,
    pub(super) servers: [Server; SERVERS],
    pub(super) clients: [Client; CLIENTS],
    /// The owner whose lease was handed over; 0: none.
    pub(super) ticket: u8,
    /// The tokens that were granted, as bits.
    pub(super) tokens: u64,
    /// The highest of them.
    pub(super) highest: u8,
    pub(super) failovers: u8,
    pub(super) restarts: u8,
    /// What the last step did wrong.
    pub(super) broken: Option<Invariant>,
}

impl<const CLIENTS: usize> State<CLIENTS> {
    /// How many attempts all clients have begun.
    pub(super) fn started(&self) -> u8 {
        self.clients.iter().map(|client| client.started).sum()
    }

    /// Now, by the clock of a server.
    pub(super) const fn clock(&self, server: usize) -> u8 {
        self.now + EPOCH + self.servers[server].skew
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let mut line = format!("t={}", self.now);
        for (index, client) in self.clients.iter().enumerate() {
            let _ = write!(line, " | client {index} {:?}", client.phase);
            if client.phase != Phase::Idle && client.phase != Phase::Sent {
                let _ = write!(line, " token {}", client.token);
            }
            if client.phase == Phase::Holding {
                let _ = write!(line, " until {}", client.deadline);
            }
        }
        for (index, server) in self.servers.iter().enumerate() {
            let _ = match (server.alive, server.primary) {
                (false, _) => {
                    let _ = write!(line, " | server {index} dead");
                    continue;
                }
                (_, true) => write!(line, " | primary {index}"),
                _ => write!(line, " | replica {index} of {}", i16::from(server.follows) - 1),
            };
            let Data { lock, until, fence } = server.data;
            let _ = match lock {
                0 => write!(line, " free, fence {fence}"),
                _ => {
                    write!(line, " owner {lock} until {}, fence {fence}", i16::from(until) - i16::from(EPOCH))
                }
            };
            let _ = write!(line, ", {} behind", server.queued);
        }
        line
    }
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A client begins an attempt.
    Send {
        /// Who.
        client: usize,
        /// To which server.
        to: usize,
    },
    /// A holder hands its lease over.
    HandOver(usize),
    /// A client begins an attempt to adopt the lease that was handed over.
    Adopt {
        /// Who.
        client: usize,
        /// At which server.
        to: usize,
    },
    /// An adoption that was not proved is undone, where its deletion would arrive.
    GiveBack {
        /// Whose.
        client: usize,
        /// Which of its attempts.
        attempt: u8,
        /// Where.
        at: usize,
    },
    /// A request arrives.
    Execute {
        /// Whose.
        client: usize,
        /// Which of its attempts.
        attempt: u8,
    },
    /// The second command of an attempt arrives, perhaps at another server: the connection may be a new one.
    FetchToken {
        /// Whose.
        client: usize,
        /// Where.
        at: usize,
    },
    /// A deletion arrives.
    Delete {
        /// Whose.
        client: usize,
        /// Of which attempt.
        attempt: u8,
        /// Where.
        at: usize,
    },
    /// Enough replicas have acknowledged.
    Prove(usize),
    /// A client gives up waiting for the proof.
    TooFew(usize),
    /// The proof arrives.
    Receive(usize),
    /// A client gives up waiting for the reply.
    Fail(usize),
    /// A holder releases.
    Release(usize),
    /// A holder extends.
    Extend {
        /// Who.
        client: usize,
        /// At which server.
        to: usize,
    },
    /// An extension arrives.
    ExecuteExtension(usize),
    /// Enough replicas have acknowledged an extension.
    ProveExtension(usize),
    /// The proof of an extension arrives.
    ReceiveExtension(usize),
    /// A replica makes the next write.
    Copy(usize),
    /// A replica becomes the primary.
    Promote {
        /// Which.
        server: usize,
        /// The old primary goes on, cut off.
        old_lives: bool,
        /// The other replica stays with it.
        other_stays: bool,
    },
    /// The old primary learns of the new one, and copies it.
    Demote(usize),
    /// The primary comes back without its data.
    Restart(usize),
}
