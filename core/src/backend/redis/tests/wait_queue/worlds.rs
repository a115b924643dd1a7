//! Random worlds of waiters: those that could have the lock are woken, and not again and again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::backend::redis::tests::random::Random;

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
    held: Vec<Request>,
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
            self.held.push(request);
        }
        self.receive();
    }

    async fn release(&mut self) {
        let at = self.random.below(self.held.len());
        let lease = self.held.swap_remove(at);
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
        let held: BTreeSet<_> = self.held.iter().flat_map(|lease| lease.resources.as_slice()).collect();
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
