//! Waiters whose process died: how they are removed, and who is woken in their place.

use super::*;

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
    let lock = process.hold("r").await;
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
    let (server, process, mut subscriber) = one_process();
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
        process.release(&lock).await;
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
    let (server, process, mut subscriber) = one_process();
    on_io(async move {
        let (lock, waiter) = held_with_a_fair_waiter(&process).await;
        queue_strangers(&server, "r", 2_000, "99999999999999");
        process.release(&lock).await;
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
        process.hold("b").await;
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
fn an_offer_is_handed_on_past_a_fair_waiter_that_died() {
    if !available() {
        return;
    }
    let (server, process, mut subscriber) = one_process();
    on_io(async move {
        let [first, last] = [(); 2].map(|()| Waiter::new(false));
        let lease = process.hold("r").await;
        process.join(&one("r"), &first).await;
        process.release(&lease).await;
        assert_eq!(subscriber.take(), [first.number()]);
        // Overtakes the first one, and the last one comes after the offer.
        process.hold("r").await;
        process.join(&one("r"), &last).await;
        queue_strangers(&server, "r", 1, "1");
        server.run::<()>(&["DEL", &lock_key("r")]);
        process.leave(&one("r"), &first).await;
        assert_eq!(subscriber.take(), [last.number()]);
    });
}
