//! One connection to a Redis server, pipelined. Ours, because a lock needs every reply of a pipeline that broke: what
//! was answered "busy" is busy, and only the rest is unknown.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::config::{Config, Target};
use crate::error::{Error, Report, Result};

/// Whatever the bytes travel over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What came back for one exchange.
#[derive(Debug)]
pub(super) struct Answer {
    /// The replies read, in order; all of them unless the connection broke.
    pub(super) replies: VecDeque<Value>,
    pub(super) broken: Option<Broken>,
}

/// Why replies are missing.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    /// In words, for a message.
    pub(super) reason: Arc<str>,
    /// Whether any byte of the exchange can have reached the server.
    pub(super) sent: bool,
}

/// A handle to a connection; clones share it. It closes when the last one is dropped.
#[derive(Clone)]
pub(super) struct Connection {
    requests: mpsc::UnboundedSender<Exchange>,
    shared: Arc<Shared>,
    _guard: Arc<Guard>,
}

struct Exchange {
    bytes: Vec<u8>,
    replies: usize,
    answer: oneshot::Sender<Answer>,
}

/// An exchange whose bytes were handed to the socket.
struct Pending {
    missing: usize,
    replies: VecDeque<Value>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    /// A std mutex: nothing awaits while it is held.
    pending: Mutex<VecDeque<Pending>>,
    tasks: OnceLock<[AbortHandle; 2]>,
}

/// Ends the two tasks with the last handle.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.break_off("it was closed");
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("open", &self.is_open()).finish()
    }
}

impl Connection {
    /// Connects and logs in, within the connect time limit.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        let limit = config.connect_timeout;
        let opened = tokio::time::timeout(limit, async {
            let stream = connect(config).await?;
            let connection = Self::start(stream);
            connection.log_in(config).await?;
            Ok(connection)
        });
        opened.await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!(
                "no connection to Redis at {config} within {} ms (redis.connectTimeoutMs), so nothing was granted; \
                 look whether the server is up, reachable, and speaks {}",
                limit.as_millis(),
                if matches!(config.target, Target::Tcp { tls: Some(_), .. }) { "TLS" } else { "plain TCP and not TLS" },
            )))
        })
    }

    fn start(stream: Box<dyn Stream>) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let (reader, writer) = tokio::io::split(stream);
        let read = tokio::spawn(read(reader, Arc::clone(&shared)));
        let write = tokio::spawn(write(writer, queue, Arc::clone(&shared)));
        let _ = shared.tasks.set([read.abort_handle(), write.abort_handle()]);
        let guard = Arc::new(Guard(Arc::clone(&shared)));
        Self { requests, shared, _guard: guard }
    }

    /// Whether it can take another exchange. It learns of the server's end also while it is idle.
    pub(super) fn is_open(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends commands and reads as many replies. When they are not all there within `limit`, the connection is closed:
    /// whatever comes later could be taken for the answer to something else.
    pub(super) async fn exchange(&self, bytes: Vec<u8>, replies: usize, limit: Duration) -> Answer {
        let (answer, mut reply) = oneshot::channel();
        if self.is_open() {
            let _ = self.requests.send(Exchange { bytes, replies, answer });
        }
        let answered = if let Ok(answered) = tokio::time::timeout(limit, &mut reply).await {
            answered
        } else {
            self.shared.break_off(&format!("the server did not answer within {} ms", limit.as_millis()));
            reply.await
        };
        // Never taken up by the writer, so not a byte of it was sent.
        answered.unwrap_or_else(|_| Answer {
            replies: VecDeque::new(),
            broken: Some(Broken { reason: "the connection was lost".into(), sent: false }),
        })
    }

    /// Sends one command.
    pub(super) async fn command(&self, command: &Cmd, limit: Duration) -> std::result::Result<Value, Broken> {
        let mut answer = self.exchange(command.get_packed_command(), 1, limit).await;
        let lost = || Broken { reason: "no reply".into(), sent: true };
        answer.replies.pop_front().ok_or_else(|| answer.broken.unwrap_or_else(lost))
    }

    async fn log_in(&self, config: &Config) -> Result<()> {
        let mut bytes = Vec::new();
        let mut steps: Vec<&str> = Vec::new();
        let mut step = |name, command: &Cmd| {
            command.write_packed_command(&mut bytes);
            steps.push(name);
        };
        if let Some(password) = &config.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &config.username {
                auth.arg(username);
            }
            step("AUTH", auth.arg(password));
        }
        if config.db != 0 {
            step("SELECT", redis::cmd("SELECT").arg(config.db));
        }
        step("CLIENT", redis::cmd("CLIENT").arg("SETNAME").arg("fencelock"));
        step("PING", &redis::cmd("PING"));
        let count = steps.len();
        let answer = self.exchange(bytes, count, config.connect_timeout).await;
        for (name, reply) in steps.into_iter().zip(&answer.replies) {
            // A user that may not name its connection can still take locks.
            if let (Value::ServerError(error), false) = (reply, name == "CLIENT") {
                return Err(refused(config, name, error));
            }
        }
        match answer.broken {
            None => Ok(()),
            Some(broken) => Err(Error::BackendUnavailable(Report::caused(
                format!(
                    "Redis at {config} closed the connection during log-in, so nothing was granted; \
                     look whether it expects TLS (rediss://) or has reached its limit of clients"
                ),
                broken.reason,
            ))),
        }
    }
}

fn refused(config: &Config, step: &str, error: &redis::ServerError) -> Error {
    let hint = match error.code() {
        "WRONGPASS" => "the user name or password is wrong (redis.username, redis.password)",
        "NOAUTH" => "it needs a password (redis.password)",
        "NOPERM" => "the user has no permission for it; see ACL in Redis's documentation",
        "LOADING" => "it is still loading its data; try again in a moment",
        "DENIED" => "it runs in protected mode; give it a password or bind it",
        _ if step == "SELECT" => "it has no such database (redis.db)",
        _ if step == "AUTH" => "the user name or password does not fit (redis.username, redis.password)",
        _ => "it does not serve",
    };
    Error::BackendUnavailable(Report::caused(
        format!("cannot log in to Redis at {config}, so nothing was granted: {hint}"),
        described(error),
    ))
}

/// A server's error as it was sent.
pub(super) fn described(error: &redis::ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

async fn connect(config: &Config) -> Result<Box<dyn Stream>> {
    let unreachable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => "the connection was refused: nobody listens there",
            io::ErrorKind::NotFound => "no such file",
            io::ErrorKind::PermissionDenied => "permission denied",
            _ => "it cannot be reached",
        };
        Error::BackendUnavailable(Report::caused(
            format!("cannot connect to Redis at {config}, so nothing was granted: {hint}"),
            error,
        ))
    };
    match &config.target {
        #[cfg(unix)]
        Target::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?)),
        #[cfg(not(unix))]
        Target::Unix(_) => Err(Error::unsupported("this platform has no Unix sockets; use redis://")),
        Target::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
            // Every batch is one write, so waiting to fill a packet would only delay it.
            stream.set_nodelay(true).map_err(unreachable)?;
            let Some(tls) = tls else { return Ok(Box::new(stream)) };
            let secured = tls.connect(stream).await.map_err(|error| {
                Error::BackendUnavailable(Report::caused(
                    format!(
                        "no TLS with Redis at {config}, so nothing was granted; look whether the server speaks TLS on \
                         that port, and whether its certificate fits redis.tls: {error}"
                    ),
                    &error,
                ))
            })?;
            Ok(Box::new(secured))
        }
    }
}

/// Writes exchanges in their order; what has come together goes out in one write.
async fn write(
    mut socket: WriteHalf<Box<dyn Stream>>,
    mut queue: mpsc::UnboundedReceiver<Exchange>,
    shared: Arc<Shared>,
) {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    while queue.recv_many(&mut batch, 1024).await > 0 {
        bytes.clear();
        {
            let mut pending = shared.pending();
            if shared.closed.load(Ordering::Acquire) {
                return; // drops the batch: not a byte of it was sent
            }
            for exchange in batch.drain(..) {
                bytes.extend_from_slice(&exchange.bytes);
                pending.push_back(Pending {
                    missing: exchange.replies,
                    replies: VecDeque::with_capacity(exchange.replies),
                    answer: exchange.answer,
                });
            }
        }
        let written = match socket.write_all(&bytes).await {
            Ok(()) => socket.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return shared.break_off(&format!("the connection broke: {error}"));
        }
    }
}

/// Reads replies for ever, so that the server's end is noticed also when nothing is pending.
async fn read(mut socket: ReadHalf<Box<dyn Stream>>, shared: Arc<Shared>) {
    let mut decoder = combine::stream::Decoder::new();
    loop {
        let value = match redis::parse_redis_value_async(&mut decoder, &mut socket).await {
            Ok(value) => value,
            Err(error) => return shared.break_off(&format!("the connection broke: {error}")),
        };
        let mut pending = shared.pending();
        let Some(first) = pending.front_mut() else {
            drop(pending);
            return shared.break_off("the server sent what nobody asked for");
        };
        first.replies.push_back(value);
        first.missing -= 1;
        if first.missing == 0
            && let Some(done) = pending.pop_front()
        {
            let _ = done.answer.send(Answer { replies: done.replies, broken: None });
        }
    }
}

impl Shared {
    /// Closes the connection, and answers whatever is pending with what has come so far.
    fn break_off(&self, reason: &str) {
        let broken = Broken { reason: reason.into(), sent: true };
        let pending = {
            let mut pending = self.pending();
            // Under the lock, so that the writer adds nothing that nobody would answer.
            if self.closed.swap(true, Ordering::AcqRel) {
                return;
            }
            std::mem::take(&mut *pending)
        };
        for exchange in pending {
            let _ = exchange.answer.send(Answer { replies: exchange.replies, broken: Some(broken.clone()) });
        }
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, VecDeque<Pending>> {
        // A panic in between would leave at worst an exchange unanswered, and its time limit closes the connection.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
