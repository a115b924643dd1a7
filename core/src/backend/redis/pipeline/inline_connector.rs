//! The connection for requests that are alone, which are sent and answered on the thread of their caller. It
//! is made for callers that make one request after another: the way through the I/O thread would cost them
//! more than the server does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::wait_kick::WaitKicker;
use crate::backend::redis::connection::Connection;
use crate::backend::redis::node_context::{KEEP_IDLE, NodeContext};
use crate::error::{Error, Result};
use crate::runtime::event_loop::EventLoop;
use crate::runtime::inline::is_inline;
use crate::runtime::sync::Mutex;

/// The connection is made once there are so many lone requests within [`FREQUENT`].
const ENOUGH: u32 = 8;
const FREQUENT: Duration = Duration::from_secs(1);

/// After a failure it is not tried again for so long, unless another server takes over.
const PAUSE: Duration = Duration::from_secs(10);

/// A connection is given up if the event loop has not read for so long what came on it between requests: then
/// it never does, or the end of the server is what came.
const UNREAD: Duration = Duration::from_secs(1);

/// Lone requests of one node, and their connection.
pub(crate) struct InlineConnector {
    context: NodeContext,
    event_loop: Arc<dyn EventLoop>,
    state: Mutex<State>,
}

/// A connection that an event loop reads.
pub(super) struct InlineConnection {
    pub connection: Connection,
    pub kicker: WaitKicker,
    /// Of its route: which server it leads to.
    generation: u64,
}

struct State {
    open: Option<Arc<InlineConnection>>,
    /// When it was used last, or made.
    used: Instant,
    /// Since when something has come on it that the event loop does not read, and how often that had read it.
    unread: Option<(Instant, u64)>,
    is_opening: bool,
    closed: bool,
    /// The first of the last lone requests, and how many there were.
    since: Instant,
    count: u32,
    /// After a failure: until when none is made, and to the server of which generation.
    pause: Option<(Instant, u64)>,
}

impl InlineConnector {
    /// `None`: no event loop reads sockets for this node.
    pub fn new(context: &NodeContext) -> Option<Arc<Self>> {
        let event_loop = context.settings.event_loop.as_ref().map(|event_loop| Arc::clone(&event_loop.0))?;
        let now = Instant::now();
        Some(Arc::new(Self { context: context.clone(), event_loop, state: Mutex::new(State::new(now)) }))
    }

    /// The connection, if the calling code may use it now.
    pub(super) fn free(self: &Arc<Self>) -> Option<Arc<InlineConnection>> {
        if !is_inline() {
            return None;
        }
        let mut state = self.state.lock();
        let mut unread = None;
        if let Some(open) = &state.open {
            let open = Arc::clone(open);
            if open.connection.is_free() {
                (state.used, state.unread) = (Instant::now(), None);
                return Some(open);
            }
            if open.connection.is_open() {
                if !state.is_unread_for_long(open.connection.unread_since()) {
                    return None;
                }
                unread = Some(Arc::clone(&open));
            }
            state.open = None;
            if !open.connection.has_replied() {
                // The event loop cannot read it, or the server does not keep it.
                state.pause(open.generation);
            }
        }
        let is_due = state.is_due(Instant::now(), self.generation());
        state.is_opening |= is_due;
        drop(state);
        if let Some(open) = unread {
            open.connection.fail_unread();
        }
        if is_due {
            tokio::spawn(Arc::clone(self).open());
        }
        None
    }

    /// Closes the connection; no other is made.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let open = state.open.take();
        drop(state);
        drop(open);
    }

    async fn open(self: Arc<Self>) {
        let generation = self.generation();
        let opened = self.connect().await;
        let mut state = self.state.lock();
        state.is_opening = false;
        match opened {
            Ok(open) if !state.closed => self.keep(&mut state, open),
            Ok(_) => {}
            Err(_) => state.pause(generation),
        }
    }

    fn keep(self: &Arc<Self>, state: &mut State, open: InlineConnection) {
        let open = Arc::new(open);
        if self.context.of_cluster {
            tokio::spawn(close_idle(Arc::downgrade(self), Arc::downgrade(&open)));
        }
        (state.used, state.unread) = (Instant::now(), None);
        state.open = Some(open);
    }

    fn generation(&self) -> u64 {
        self.context.connector.route().generation()
    }

    async fn connect(&self) -> Result<InlineConnection> {
        let connection = self.context.connector.connect_inline().await?;
        let generation = self.generation();
        connection
            .hand_over(&self.event_loop)
            .map_err(|error| Error::unavailable(format!("the socket cannot be duplicated: {error}")))?;
        let kicker = WaitKicker::start(Arc::clone(&self.context.shared));
        Ok(InlineConnection { connection, kicker, generation })
    }
}

/// Closes a connection that has not been used for a while, as those of the workers.
async fn close_idle(connector: Weak<InlineConnector>, connection: Weak<InlineConnection>) {
    let mut due = Instant::now() + KEEP_IDLE;
    loop {
        tokio::time::sleep_until(due).await;
        let Some(connector) = connector.upgrade() else { return };
        let mut state = connector.state.lock();
        let is_open = |open: &Arc<_>| std::ptr::eq(Arc::as_ptr(open), connection.as_ptr());
        if !state.open.as_ref().is_some_and(is_open) {
            return;
        }
        due = state.used + KEEP_IDLE;
        if due <= Instant::now() {
            let idle = state.open.take();
            drop(state);
            drop(idle);
            return;
        }
    }
}

impl State {
    const fn new(now: Instant) -> Self {
        Self {
            open: None,
            used: now,
            unread: None,
            is_opening: false,
            closed: false,
            since: now,
            count: 0,
            pause: None,
        }
    }

    /// Notes what the connection says. Whether its event loop has had enough time to read it.
    fn is_unread_for_long(&mut self, unread: Option<u64>) -> bool {
        let now = Instant::now();
        let since = |reads| self.unread.filter(|&(_, of)| of == reads).map_or(now, |(since, _)| since);
        self.unread = unread.map(|reads| (since(reads), reads));
        self.unread.is_some_and(|(since, _)| now - since >= UNREAD)
    }

    fn pause(&mut self, generation: u64) {
        self.pause = Some((Instant::now() + PAUSE, generation));
    }

    /// Counts a lone request. Whether a connection is worth while now.
    fn is_due(&mut self, now: Instant, generation: u64) -> bool {
        if now.duration_since(self.since) > FREQUENT {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        let is_paused = self.pause.is_some_and(|(until, of)| now < until && of == generation);
        let is_due = self.count >= ENOUGH && !self.is_opening && !self.closed && !is_paused;
        if is_due {
            self.count = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::backend::redis::connection::Socket;
    use crate::backend::redis::protocol::decoder::Decoder;
    use crate::runtime::clock::BootInstant;
    use crate::runtime::event_loop::SocketReader;
    use crate::runtime::inline::InlineExecutor;

    /// It begins to read, and never does.
    struct NeverReads;

    impl EventLoop for NeverReads {
        fn read(&self, _socket: OwnedFd, reader: Weak<dyn SocketReader>) {
            if let Some(reader) = reader.upgrade() {
                reader.begins();
            }
        }

        fn request(&self) {}

        fn last_seen(&self) -> BootInstant {
            BootInstant::from_micros(0)
        }
    }

    /// A connection of a node, and the other end of it.
    fn connected(of_cluster: bool) -> (Arc<InlineConnector>, UnixStream) {
        let context = NodeContext { of_cluster, ..NodeContext::of_server("redis://127.0.0.1:1") };
        let kicker = WaitKicker::start(Arc::clone(&context.shared));
        let (event_loop, state) =
            (Arc::new(NeverReads) as Arc<dyn EventLoop>, Mutex::new(State::new(Instant::now())));
        let connector = Arc::new(InlineConnector { context, event_loop, state });
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let connection = Connection::start_inline(Socket::Unix(ours), None, Decoder::default());
        connection.hand_over(&connector.event_loop).unwrap();
        let open = InlineConnection { connection, kicker, generation: 0 };
        connector.keep(&mut connector.state.lock(), open);
        (connector, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_to_a_node_of_a_cluster_is_closed() {
        let is_open = |connector: &InlineConnector| connector.state.lock().open.is_some();
        let almost = KEEP_IDLE.mul_f64(0.9);
        let [(idle, mut end), (used, _used), (only, _only)] = [true, true, false].map(connected);
        tokio::time::sleep(almost).await;
        assert!(is_open(&idle));
        used.state.lock().used = Instant::now();
        tokio::time::sleep(almost).await;
        assert!(!is_open(&idle) && is_open(&used));
        assert_eq!(std::io::Read::read(&mut end, &mut [0]).unwrap(), 0, "the server sees its end");
        tokio::time::sleep(almost).await;
        assert!(!is_open(&used));
        assert!(is_open(&only), "the only server");
    }

    /// As if the calling thread was that of an event loop.
    fn free(connector: &Arc<InlineConnector>) -> Option<Arc<InlineConnection>> {
        let mut free = None;
        assert!(Arc::<InlineExecutor>::default().read(|| free = connector.free()));
        free
    }

    fn is_paused(connector: &InlineConnector) -> bool {
        connector.state.lock().pause.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_never_read_is_not_made_again_at_once_however_often_it_was_free() {
        let (connector, _end) = connected(false);
        assert!((0..5).all(|_| free(&connector).is_some()), "it is taken, and not used");
        connector.state.lock().open.as_ref().unwrap().connection.close("it broke");
        assert!(free(&connector).is_none());
        assert!(is_paused(&connector));
    }

    #[tokio::test]
    async fn a_connection_whose_end_is_not_read_is_given_up() {
        let (connector, end) = connected(false);
        let open = free(&connector).expect("nothing came");
        drop(end);
        assert!(free(&connector).is_none());
        assert!(open.connection.is_open(), "the event loop may be about to read it");
        // By the clock of the I/O thread, which is not paused.
        tokio::time::sleep(UNREAD).await;
        assert!(free(&connector).is_none());
        assert!(!open.connection.is_open());
        assert!(connector.state.lock().open.is_none() && is_paused(&connector));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_event_loop_reads_in_time_ends_no_connection() {
        let mut state = State::new(Instant::now());
        for (reads, ms) in [(Some(1), 900), (Some(2), 900), (None, 900), (Some(2), 900), (Some(2), 100)] {
            assert!(!state.is_unread_for_long(reads));
            tokio::time::advance(Duration::from_millis(ms)).await;
        }
        assert!(state.is_unread_for_long(Some(2)));
    }

    #[test]
    fn a_connection_is_made_for_frequent_requests_and_after_a_pause_again() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut state = State::new(begin);
        assert!(!(0..20).any(|call| state.is_due(at(call * 150), 0)), "fewer than eight in a second");
        assert!((0..8).any(|call| state.is_due(at(10_000 + call), 0)));
        state.pause = Some((at(20_000), 0));
        assert!(!(0..50).any(|call| state.is_due(at(10_010 + call), 0)));
        assert!((0..8).any(|call| state.is_due(at(10_060 + call), 1)), "another server has taken over");
        assert!((0..8).any(|call| state.is_due(at(20_000 + call), 0)));
        state.is_opening = true;
        assert!(!(0..50).any(|call| state.is_due(at(20_010 + call), 0)));
    }
}
