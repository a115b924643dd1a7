//! The wait queue on a real server, one script at a time: who is woken, and how often.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use redis::Value;

use super::server::{Server, available};
use super::*;
use crate::backend::redis::config::Deployment;
use crate::backend::redis::config::endpoint::{Endpoint, ServerKind};
use crate::backend::redis::connection::route::{FixedAddress, Route};
use crate::backend::redis::node_context::NodeContext;
use crate::backend::redis::protocol::expected::ScriptReply;
use crate::backend::redis::protocol::lease_args::LeaseArgs;
use crate::backend::redis::protocol::scripts::{ACQUIRE, HEARTBEAT, JOIN_QUEUE, LEAVE_QUEUE, RELEASE};
use crate::backend::redis::protocol::values::text;
use crate::backend::waiter::Waiter;

/// A process: its name in queues, and its connection.
struct Process(NodeContext);

impl Process {
    fn new(server: &Server) -> Self {
        let Config { deployment, settings } = Config::new(options(&server.url(), 0)).unwrap();
        let Deployment::Standalone(address) = deployment else { panic!("a URL is of one server") };
        let kind = ServerKind::Primary;
        let endpoint = Endpoint { address, kind, settings: Arc::clone(&settings) };
        let route = Route::new(Arc::new(FixedAddress(Arc::new(endpoint))));
        Self(NodeContext::new(settings, Arc::new(route), Clock::System, false))
    }

    fn name(&self) -> String {
        self.0.settings.keys.process()
    }

    async fn attempt(&self, lease: &LeaseArgs) -> Value {
        let reply = self.0.shared.run_script(&ACQUIRE, |packer, out| {
            ACQUIRE.pack(&self.0.settings.keys, std::iter::once(lease), packer, out);
        });
        first(reply.await.unwrap())
    }

    async fn release(&self, lease: &LeaseArgs) -> Value {
        let reply = self.0.shared.run_script(&RELEASE, |packer, out| {
            RELEASE.pack(&self.0.settings.keys, std::iter::once(lease), packer, out);
        });
        first(reply.await.unwrap())
    }

    async fn leave(&self, resources: &Resources, waiter: &Waiter) {
        let entry = self.0.settings.keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let reply = self.0.shared.run_script(&LEAVE_QUEUE, |packer, out| {
            LEAVE_QUEUE.pack_queues(
                &self.0.settings.keys,
                &names,
                Some(&entry),
                ScriptReply::Number,
                packer,
                out,
            );
        });
        reply.await.unwrap();
    }

    async fn join(&self, resources: &Resources, waiter: &Waiter) -> Value {
        let entry = self.0.settings.keys.waiter(waiter);
        let names = resources.as_slice().iter().map(AsRef::as_ref);
        let reply = self.0.shared.run_script(&JOIN_QUEUE, |packer, out| {
            JOIN_QUEUE.pack_queues(
                &self.0.settings.keys,
                &names,
                Some(&entry),
                ScriptReply::Number,
                packer,
                out,
            );
        });
        first(reply.await.unwrap())
    }

    async fn heartbeat(&self, names: &[&str]) -> Value {
        let (process, shape) = (self.name(), ScriptReply::Numbers(names.len()));
        let names = names.iter().copied();
        let reply = self.0.shared.run_script(&HEARTBEAT, |packer, out| {
            HEARTBEAT.pack_queues(&self.0.settings.keys, &names, Some(&process), shape, packer, out);
        });
        first(reply.await.unwrap())
    }
}

/// The only reply, or the first of several.
fn first(reply: Value) -> Value {
    match reply {
        Value::Array(replies) => replies.into_iter().next().unwrap(),
        reply => reply,
    }
}

fn is_granted(reply: &Value) -> bool {
    matches!(reply, Value::Int(1..))
}

/// Everything that is published to these processes.
struct Subscriber(redis::Connection);

impl Subscriber {
    fn new<'a>(server: &Server, processes: impl Iterator<Item = &'a Process>) -> Self {
        let mut connection = server.client();
        for process in processes {
            let mut subscribe = redis::cmd("SUBSCRIBE");
            subscribe.arg(process.0.settings.keys.channel());
            connection.send_packed_command(&subscribe.get_packed_command()).unwrap();
            connection.recv_response().unwrap();
        }
        Self(connection)
    }

    /// The numbers that were published until now.
    fn take(&mut self) -> Vec<u64> {
        self.0.send_packed_command(&redis::cmd("PING").get_packed_command()).unwrap();
        let mut numbers = Vec::new();
        loop {
            let Value::Array(fields) = self.0.recv_response().unwrap() else { panic!("no list") };
            let mut fields = fields.into_iter().map(|field| text(field).unwrap_or_default());
            if fields.next().as_deref() == Some("pong") {
                return numbers;
            }
            numbers.push(fields.nth(1).unwrap().parse().unwrap());
        }
    }
}

/// xorshift64, so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

struct Waiting {
    process: usize,
    resources: Resources,
    waiter: Waiter,
}

/// Processes that wait for overlapping sets of resources. Nothing is lost, and no time passes: so wake-ups
/// alone decide who attempts.
struct World {
    random: Random,
    processes: Vec<Process>,
    subscriber: Subscriber,
    names: Vec<String>,
    waiting: BTreeMap<u64, Waiting>,
    held: Vec<(LeaseArgs, Resources)>,
    /// Published, and not yet received.
    messages: VecDeque<u64>,
    attempts: usize,
    alive: Instant,
}

impl World {
    fn new(server: &Server, seed: u64) -> Self {
        let processes: Vec<_> = (0..3).map(|_| Process::new(server)).collect();
        let subscriber = Subscriber::new(server, processes.iter());
        Self {
            random: Random(seed),
            processes,
            subscriber,
            names: (0..5).map(|name| format!("{seed}-{name}")).collect(),
            waiting: BTreeMap::new(),
            held: Vec::new(),
            messages: VecDeque::new(),
            attempts: 0,
            alive: Instant::now(),
        }
    }

    /// A waiter for some resources attempts for the first time.
    async fn start(&mut self, fair: bool) {
        let mut names = BTreeSet::new();
        for _ in 0..=self.random.below(3) {
            names.insert(self.names[self.random.below(self.names.len())].clone());
        }
        let process = self.random.below(self.processes.len());
        let waiter = Waiter::new(fair);
        let resources = Resources::many(names.into_iter().collect()).unwrap();
        self.waiting.insert(waiter.number(), Waiting { process, resources, waiter });
        let number = *self.waiting.last_key_value().unwrap().0;
        self.attempt(number).await;
    }

    async fn attempt(&mut self, number: u64) {
        // It may have left.
        let Some(Waiting { process, resources, waiter }) = self.waiting.get(&number) else { return };
        self.attempts += 1;
        let request =
            Request { waiter: Some(waiter.clone()), ..request(resources.clone(), 600_000, acks(0, 0)) };
        let reply = self.processes[*process].attempt(&LeaseArgs::acquire(&request)).await;
        if is_granted(&reply) {
            self.waiting.remove(&number);
            self.held.push((LeaseArgs::release(&request.resources, request.owner), request.resources));
        }
        self.receive();
    }

    async fn release(&mut self) {
        let at = self.random.below(self.held.len());
        let (lease, _) = self.held.swap_remove(at);
        self.processes[0].release(&lease).await;
        self.receive();
    }

    async fn leave(&mut self) {
        let at = self.random.below(self.waiting.len());
        let number = *self.waiting.keys().nth(at).unwrap();
        let Waiting { process, resources, waiter } = self.waiting.remove(&number).unwrap();
        self.processes[process].leave(&resources, &waiter).await;
        self.receive();
    }

    fn receive(&mut self) {
        self.messages.extend(self.subscriber.take());
    }

    /// Keeps the processes alive. `false`: this machine was too slow for that.
    async fn keep_alive(&mut self) -> bool {
        let elapsed = self.alive.elapsed();
        if elapsed > Duration::from_millis(100) {
            self.alive = Instant::now();
            let names: Vec<_> = self.names.iter().map(String::as_str).collect();
            for process in &self.processes {
                // Whom it would wake is ignored.
                process.heartbeat(&names).await;
            }
        }
        elapsed < Duration::from_secs(1)
    }

    /// Delivers messages, in any order, until there are none; each makes its waiter attempt.
    async fn settle(&mut self, limit: usize) {
        self.attempts = 0;
        while !self.messages.is_empty() {
            let at = self.random.below(self.messages.len());
            let number = self.messages.remove(at).unwrap();
            self.attempt(number).await;
            assert!(self.attempts <= limit, "{} attempts of {} waiters", self.attempts, self.waiting.len());
        }
    }

    /// The waiters that an attempt would grant.
    fn forgotten(&self) -> Vec<u64> {
        let held: BTreeSet<_> = self.held.iter().flat_map(|(_, resources)| resources.as_slice()).collect();
        let mut fair_heads = BTreeMap::new();
        for (number, waiting) in self.waiting.iter().filter(|(_, waiting)| waiting.waiter.is_fair()) {
            for name in waiting.resources.as_slice() {
                fair_heads.entry(name).or_insert(*number);
            }
        }
        let may =
            |number: u64, waiting: &Waiting| {
                waiting.resources.as_slice().iter().all(|name| {
                    !held.contains(name) && fair_heads.get(name).is_none_or(|&head| head == number)
                })
            };
        self.waiting.iter().filter(|(number, it)| may(**number, it)).map(|(&number, _)| number).collect()
    }
}

/// What happens to a world: joins, releases and waiters that give up, and what each of them leads to.
async fn live(server: &Server, seed: u64) {
    let mut world = World::new(server, seed);
    let fair_of_ten = [0, 2, 5][world.random.below(3)];
    for _ in 0..60 {
        // Several at once, so that offers overlap.
        for _ in 0..=world.random.below(2) {
            match world.random.below(10) {
                0..4 if world.waiting.len() < 10 => {
                    let fair = world.random.below(10) < fair_of_ten;
                    world.start(fair).await;
                }
                4..5 if !world.waiting.is_empty() => world.leave().await,
                _ if !world.held.is_empty() => world.release().await,
                _ => {}
            }
        }
        world.settle(3 * world.waiting.len() + 3).await;
        if !world.keep_alive().await {
            return;
        }
        assert_eq!(world.forgotten(), Vec::<u64>::new(), "they could have the lock, and are not woken");
    }
}

#[test]
fn overlapping_waiters_are_woken_if_they_can_be_granted_and_not_again_and_again() {
    if !available() {
        return;
    }
    let server = Arc::new(Server::start(&[]));
    for seed in 1..=60 {
        let server = Arc::clone(&server);
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            on_io(async move { live(&server, seed).await });
        }));
        assert!(lived.is_ok(), "with the seed {seed}");
    }
}

/// The number of a waiter that the server would wake, from the reply of a heartbeat.
fn number(reply: &Value) -> u64 {
    let Value::Int(number) = reply else { panic!("{reply:?}") };
    u64::try_from(*number).unwrap_or_else(|_| panic!("no waiter to wake: {number}"))
}

fn waiters(server: &Server, resource: &str) -> usize {
    let queue = format!("fencelock:{{{resource}}}:line");
    server.run(&["ZCOUNT", &queue, "100000000000000", "+inf"])
}

/// Queues this many fair waiters of a process that never was. `alive_until`: its score, in ms.
fn queue_strangers(server: &Server, resource: &str, count: usize, alive_until: &str) {
    let (queue, process) = (format!("fencelock:{{{resource}}}:line"), "d".repeat(32));
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZADD").arg(&queue).arg(alive_until).arg(&process).ignore();
    for number in 0..count {
        let entry = format!("{process}:{}:f", number + 1);
        pipeline.cmd("ZADD").arg(&queue).arg(100_000_000_000_001_u64 + number as u64).arg(entry).ignore();
    }
    pipeline.exec(&mut server.client()).unwrap();
}

/// A lock on "r" that is held, and a fair waiter of the same process in its queue.
async fn held_with_a_fair_waiter(process: &Process) -> (Request, Waiter) {
    let lock = request(one("r"), 600_000, acks(0, 0));
    assert!(is_granted(&process.attempt(&LeaseArgs::acquire(&lock)).await));
    let waiter = Waiter::new(true);
    assert!(matches!(process.join(&one("r"), &waiter).await, Value::Int(..=-1)));
    (lock, waiter)
}

/// The most dead waiters that one call removes.
const MOST_REMOVED: usize = 256;

#[test]
fn dead_waiters_are_removed_a_few_at_a_time() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let process = Process::new(&server);
    let mut subscriber = Subscriber::new(&server, std::iter::once(&process));
    on_io(async move {
        let (lock, waiter) = held_with_a_fair_waiter(&process).await;
        queue_strangers(&server, "r", 2_000, "1");
        let mut left = waiters(&server, "r");
        let mut removed = |what: &str| {
            let now = waiters(&server, "r");
            assert!((1..=MOST_REMOVED).contains(&(left - now)), "{what}: {left} → {now}");
            left = now;
        };
        // Each of these looks for the first waiter; where that is not known yet, a heartbeat goes on.
        assert_eq!(
            process.attempt(&LeaseArgs::acquire(&request(one("r"), 500, acks(0, 0)))).await,
            Value::Int(-(1 << 40))
        );
        removed("an attempt");
        assert_eq!(subscriber.take(), [0]);
        process.release(&LeaseArgs::release(&lock.resources, lock.owner)).await;
        removed("a release");
        assert_eq!(subscriber.take(), [0]);
        let mut reply = process.heartbeat(&["r"]).await;
        while reply == Value::Int(-2) {
            removed("a heartbeat");
            reply = process.heartbeat(&["r"]).await;
        }
        assert_eq!(number(&reply), waiter.number());
        assert_eq!(waiters(&server, "r"), 1);
    });
}

#[test]
fn waiters_that_are_all_dead_delay_no_attempt() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    queue_strangers(&server, "r", 2_000, "1");
    let backend = backend(&server.url(), 0);
    granted(acquire(&backend, &request(one("r"), 10_000, acks(0, 0))));
    assert_eq!(waiters(&server, "r"), 0);
}

#[test]
fn a_process_without_a_subscription_counts_as_dead_with_all_its_waiters() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let process = Process::new(&server);
    let mut subscriber = Subscriber::new(&server, std::iter::once(&process));
    on_io(async move {
        let (lock, waiter) = held_with_a_fair_waiter(&process).await;
        queue_strangers(&server, "r", 2_000, "99999999999999");
        process.release(&LeaseArgs::release(&lock.resources, lock.owner)).await;
        assert!(waiters(&server, "r") >= 2_001 - MOST_REMOVED);
        assert_eq!(subscriber.take(), [0]);
        while process.heartbeat(&["r"]).await == Value::Int(-2) {}
        assert_eq!(number(&process.heartbeat(&["r"]).await), waiter.number());
    });
}

#[test]
fn the_death_of_a_fair_waiter_is_an_offer_to_those_it_kept_from_the_lock() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let (process, dies) = (Process::new(&server), Process::new(&server));
    let mut subscriber = Subscriber::new(&server, [&process, &dies].into_iter());
    on_io(async move {
        let held = request(one("b"), 600_000, acks(0, 0));
        assert!(is_granted(&process.attempt(&LeaseArgs::acquire(&held)).await));
        let fair = Waiter::new(true);
        dies.join(&Resources::many(vec!["a".into(), "b".into()]).unwrap(), &fair).await;
        // Neither can have `a` before the fair waiter, nor the first of them before `b` is released.
        let (both, single) = (Waiter::new(false), Waiter::new(false));
        process.join(&Resources::many(vec!["a".into(), "b".into()]).unwrap(), &both).await;
        process.join(&one("a"), &single).await;
        assert_eq!(subscriber.take(), [0; 0]);
        server.run::<()>(&["ZADD", "fencelock:{a}:line", "1", &dies.name()]);
        assert_eq!(number(&process.heartbeat(&["a"]).await), both.number());
        let attempt = LeaseArgs::acquire(&Request {
            waiter: Some(both),
            ..request(Resources::many(vec!["a".into(), "b".into()]).unwrap(), 500, acks(0, 0))
        });
        assert!(!is_granted(&process.attempt(&attempt).await));
        assert_eq!(subscriber.take(), [single.number()]);
    });
}

#[test]
fn a_server_out_of_memory_keeps_the_places_of_waiters_and_says_who_holds_what() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let process = Process::new(&server);
    let mut subscriber = Subscriber::new(&server, std::iter::once(&process));
    on_io(async move {
        let held = request(one("r"), 600_000, acks(0, 0));
        assert!(is_granted(&process.attempt(&LeaseArgs::acquire(&held)).await));
        let other = LeaseArgs::acquire(&request(one("other"), 600_000, acks(0, 0)));
        assert!(is_granted(&process.attempt(&other).await));
        let (first, second) = (Waiter::new(true), Waiter::new(true));
        process.join(&one("r"), &first).await;
        server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        for name in ["other", "free"] {
            let attempt = LeaseArgs::acquire(&request(one(name), 500, acks(0, 0)));
            match process.attempt(&attempt).await {
                Value::Int(reply) => assert!(name == "other" && reply < 0, "{reply}"),
                Value::ServerError(error) => assert_eq!((name, error.code()), ("free", "OOM")),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(process.join(&one("r"), &second).await, Value::Int(..=0)));
        let alive = || server.run::<u64>(&["ZSCORE", "fencelock:{r}:line", &process.name()]);
        let before = alive();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(process.heartbeat(&["r"]).await, Value::Int(-1));
        assert!(alive() > before, "it counts as alive for longer");
        process.release(&LeaseArgs::release(&held.resources, held.owner)).await;
        assert_eq!(subscriber.take(), [first.number()]);
    });
}

#[test]
fn a_lock_that_is_not_ours_is_an_error_and_not_a_holder() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    server.run::<()>(&["RPUSH", &lock_key("list"), "x"]);
    server.run::<()>(&["SET", &lock_key("text"), "x"]);
    for (name, words) in [("list", "another type"), ("text", "has no TTL")] {
        for resources in [one(name), Resources::many(vec!["other".into(), name.into()]).unwrap()] {
            let error = acquire(&backend, &request(resources, 10_000, acks(0, 0))).unwrap_err();
            assert_eq!(code(&error), "BACKEND_UNAVAILABLE");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains("nothing was granted"), "{error}");
        }
    }
    assert!(!server.exists(&lock_key("other")));
    assert_eq!(backend.pending_cleanups(), 0);
}

/// One attempt of a waiter that has joined.
fn attempt_waiting(backend: &Arc<RedisBackend>, acks: AckPolicy, waiter: &Waiter) -> Result<Attempt> {
    acquire(backend, &Request { waiter: Some(waiter.clone()), ..request(one("r"), 60_000, acks) })
}

fn join(backend: &Arc<RedisBackend>, fair: bool) -> Waiter {
    let (backend, waiter) = (Arc::clone(backend), Waiter::new(fair));
    let joining = waiter.clone();
    on_io(async move { backend.join_queue(&one("r"), &joining).await }).unwrap();
    waiter
}

#[test]
fn a_waiter_whose_grant_did_not_count_is_still_woken() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 1);
    for fair in [false, true] {
        let waiter = join(&backend, fair);
        let error = attempt_waiting(&backend, acks(1, 20), &waiter).unwrap_err();
        assert_eq!(code(&error), "INSUFFICIENT_REPLICAS");
        let holder = request(one("r"), 60_000, acks(0, 0));
        granted(acquire(&backend, &holder));
        assert!(matches!(attempt_waiting(&backend, acks(0, 0), &waiter), Ok(Attempt::Busy(_))));
        let woken = waiter.clone();
        // What woke it before the release.
        on_io(async move { tokio::time::timeout(Duration::from_millis(1), woken.woken()).await }).ok();
        assert!(release(&backend, &holder).unwrap());
        let woken = waiter.clone();
        on_io(async move { tokio::time::timeout(LONG, woken.woken()).await }).expect("woken by the release");
        granted(attempt_waiting(&backend, acks(0, 0), &waiter));
        server.run::<()>(&["FLUSHALL"]);
    }
}

#[test]
fn waiters_of_a_closed_backend_leave_the_queues() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let [holding, closing, waiting] = [(); 3].map(|()| backend(&server.url(), 0));
    let holder = request(one("r"), 60_000, acks(0, 0));
    granted(acquire(&holding, &holder));
    let [first, second] = [&closing, &waiting].map(|backend| {
        let waiter = join(backend, true);
        assert!(matches!(attempt_waiting(backend, acks(0, 0), &waiter), Ok(Attempt::Busy(_))));
        waiter
    });
    on_io(async move {
        closing.close().await;
        closing.leave_queue(&one("r"), &first).await;
    });
    // As if the lease had expired: no release looks after the queue.
    server.run::<()>(&["DEL", &lock_key("r")]);
    // At once, not when the other process counts as dead.
    granted(attempt_waiting(&waiting, acks(0, 0), &second));
}

#[test]
fn an_offer_is_handed_on_past_a_fair_waiter_that_died() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let process = Process::new(&server);
    let mut subscriber = Subscriber::new(&server, std::iter::once(&process));
    on_io(async move {
        let [one_lease, other] = [(); 2].map(|()| request(one("r"), 600_000, acks(0, 0)));
        let [first, last] = [(); 2].map(|()| Waiter::new(false));
        assert!(is_granted(&process.attempt(&LeaseArgs::acquire(&one_lease)).await));
        process.join(&one("r"), &first).await;
        process.release(&LeaseArgs::release(&one_lease.resources, one_lease.owner)).await;
        assert_eq!(subscriber.take(), [first.number()]);
        // Overtakes the first one, and the last one comes after the offer.
        assert!(is_granted(&process.attempt(&LeaseArgs::acquire(&other)).await));
        process.join(&one("r"), &last).await;
        queue_strangers(&server, "r", 1, "1");
        server.run::<()>(&["DEL", &lock_key("r")]);
        process.leave(&one("r"), &first).await;
        assert_eq!(subscriber.take(), [last.number()]);
    });
}
