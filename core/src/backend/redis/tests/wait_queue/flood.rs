//! Other clients publish on the channel of wake-ups.

use super::places::join;
use super::*;

/// How many scripts the server has run.
fn scripts(server: &Server) -> usize {
    let stats = server.info("commandstats");
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[test]
fn a_flood_of_foreign_messages_is_no_flood_of_scripts() {
    if !available() {
        return;
    }
    let server = Server::start(&[]);
    let backend = backend(&server.url(), 0);
    granted(acquire(&backend, &request(one("r"), 60_000, acks(0, 0))));
    let _waiter = join(&backend, false);
    let channels: Vec<String> = server.run(&["PUBSUB", "CHANNELS"]);
    let [channel] = &channels[..] else { panic!("{channels:?}") };
    let mut client = server.client();
    let (before, started) = (scripts(&server), Instant::now());
    let mut messages = 0;
    while started.elapsed() < Duration::from_millis(300) {
        assert_eq!(redis::cmd("PUBLISH").arg(channel).arg("x").query::<u32>(&mut client), Ok(1));
        messages += 1;
    }
    let run = scripts(&server) - before;
    let most = started.elapsed().as_millis() as usize / 20 + 4;
    assert!((1..=most).contains(&run), "{run} scripts in {:?} after {messages} messages", started.elapsed());
}
