//! What every script states, and in which order it gets its arguments.

use std::time::Duration;

use super::*;
use crate::backend::contract::Request;
use crate::backend::waiter::Waiter;
use crate::lease::{AckPolicy, Mode, Ttl};

#[test]
fn every_script_states_its_keys_and_its_reply() {
    for script in [
        &ACQUIRE,
        &EXTEND,
        &ADOPT,
        &GIVE_BACK,
        &RELEASE,
        &LEAVE_REST,
        &HELD,
        &INSPECT,
        &COUNT_WAITERS,
        &FORCE_RELEASE,
        &DELETE_LOCK,
        &READ_KEY,
        &JOIN_QUEUE,
        &LEAVE_QUEUE,
        &HEARTBEAT,
        &CAN_PUBLISH,
        &RIGHTS,
        &PROBE,
    ] {
        let head = script.body.lines().skip_while(|line| !line.starts_with("-- KEYS "));
        let head = head.take_while(|line| line.starts_with("-- "));
        let head = head.collect::<Vec<_>>().join(" ");
        assert!(head.contains(" ARGV ") && head.contains(" ⇒ "), "{head:?} in {}", script.body);
    }
}

#[test]
fn a_call_is_packed_in_the_order_in_which_the_script_reads_it() {
    let keys = Keys::new("p").unwrap();
    let acquire = |names: &[&str], owner: u8| {
        let resources = Resources::many(names.iter().map(ToString::to_string).collect()).unwrap();
        let (owner, ttl) = (Owner::from_bytes([owner; 16]), Ttl::from_millis(500).unwrap());
        LeaseArgs::acquire(&Request {
            resources,
            owner,
            ttl,
            min_hold: Duration::ZERO,
            mode: Mode::Exclusive,
            min_token: 7,
            acks: AckPolicy::default(),
            waiter: None,
        })
    };
    let mut leases =
        [acquire(&["a", "}b"], 0xab), acquire(&["c"], 0xcd), acquire(&["d"], 0xef), acquire(&["e"], 0x12)];
    let waiter = Waiter::new(true);
    leases[3].waiter = Some(waiter.clone());
    let mut out = Vec::new();
    let mut packer = Packer::new();
    ACQUIRE.pack(&keys, leases.iter(), &mut packer, &mut out);
    let Some(ExpectedReply::Script { echo, shape }) = packer.next_expected() else { panic!("no script") };
    assert_eq!(shape, ScriptReply::Numbers(4));
    let echo = echo.to_string();
    let text = String::from_utf8(out).unwrap();
    let words: Vec<&str> =
        text.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).collect();
    let owners = ["ab", "cd", "ef", "12"].map(|digits| digits.repeat(16));
    let entry = format!("{}:{}:f", keys.process(), waiter.number());
    #[rustfmt::skip]
    let expected = [
        "EVALSHA", ACQUIRE.sha.as_str(), "15",
        "p:{a}:lock", "p:x{7d62}:lock", "p:{a}:fence", "p:x{7d62}:fence",
        "p:{c}:lock", "p:{c}:fence", "p:{d}:lock", "p:{d}:fence", "p:{e}:lock", "p:{e}:fence",
        "p:{a}:line", "p:x{7d62}:line", "p:{c}:line", "p:{d}:line", "p:{e}:line",
        &echo,
        "1", "2", "500", "7", "604800500", "0", &owners[0],
        "2", "1", "500", "7", "604800500", "0", &owners[1], &owners[2],
        "1", "1", "500", "7", "604800500", "1", &owners[3], &entry,
    ];
    assert_eq!(words, expected);
}
