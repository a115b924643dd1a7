use super::*;
use Answer::{Gone, Granted, High, Low};

const SENT: BootInstant = BootInstant::from_micros(1_000);
const TOKEN: u64 = 100;

fn limits(out_of_patience: bool) -> Limits {
    let deadline = SENT + Duration::from_millis(100);
    Limits { deadline, keep_until: SENT + Duration::from_millis(25), out_of_patience }
}

fn held(left_ms: u64, token: u64) -> Answer {
    Answer::Held { left: Some(Duration::from_millis(left_ms)), token }
}

/// A round of this many nodes with these answers; the first node is home.
fn round(nodes: usize, answers: &[Answer]) -> Round {
    let mut round = Round::start(vec![true; nodes], Some(0), 0, TOKEN, SENT).unwrap();
    for (node, &answer) in answers.iter().enumerate() {
        round.answer(node, TOKEN, answer);
    }
    round
}

fn decide(nodes: usize, answers: &[Answer]) -> Decision {
    round(nodes, answers).decide(SENT, limits(false))
}

fn busy(left_ms: u64) -> Decision {
    Decision::GiveUp(Failure::Busy(Some(Duration::from_millis(left_ms))))
}

#[test]
fn the_deciding_vote_settles_it_without_stragglers() {
    assert_eq!(decide(5, &[Granted, Granted]), Decision::Wait);
    assert_eq!(decide(5, &[Granted, Gone, Granted, Granted]), Decision::Granted);
    assert_eq!(decide(3, &[held(9, 5), held(7, 5)]), busy(7), "one more node of the two must be free");
    assert_eq!(decide(5, &[held(9, 5), held(7, 5), held(8, 5)]), busy(7));
    assert_eq!(decide(5, &[held(9, 5), held(7, 5), held(8, 5), held(1, 5), held(2, 5)]), busy(7));
}

#[test]
fn a_majority_after_the_deadline_is_late() {
    let round = round(3, &[Granted, Granted]);
    assert_eq!(round.decide(limits(false).deadline, limits(false)), Decision::GiveUp(Failure::Late));
}

#[test]
fn too_few_nodes_are_not_asked_at_all() {
    assert!(Round::start([true, false, false], None, 0, TOKEN, SENT).is_none());
    assert!(Round::start([true, false, true], None, 0, TOKEN, SENT).is_some());
    assert_eq!([1, 2, 3, 4, 5, 7].map(majority), [1, 2, 2, 3, 3, 4]);
}

#[test]
fn a_low_token_is_raised_at_once_and_grants_of_before_do_not_count() {
    let mut round = round(3, &[Granted, Low(500), Low(400)]);
    assert_eq!(round.decide(SENT, limits(false)), Decision::Correct);
    assert_eq!(round.known(), 500);
    round.again(Decision::Correct, 501, SENT);
    assert_eq!(round.decide(SENT, limits(false)), Decision::Wait, "all are asked again");
    round.answer(0, TOKEN, Granted);
    round.answer(1, TOKEN, Granted);
    assert_eq!(round.decide(SENT, limits(false)), Decision::Wait, "answers to the first proposal");
    round.answer(0, 501, Granted);
    round.answer(2, 501, Granted);
    assert_eq!(round.decide(SENT, limits(false)), Decision::Granted);
}

#[test]
fn correcting_ends_after_three_rounds() {
    let mut round = round(3, &[Low(500), Low(500)]);
    for token in 501..504 {
        assert_eq!(round.decide(SENT, limits(false)), Decision::Correct);
        round.again(Decision::Correct, token, SENT);
        round.answer(0, token, Low(token));
        round.answer(1, token, Low(token));
    }
    assert_eq!(round.decide(SENT, limits(false)), Decision::GiveUp(Failure::TooFew));
}

#[test]
fn one_low_answer_is_no_reason_to_give_up_before_the_others_have_answered() {
    let mut two_of_three = Round::start([true, true, false], Some(0), 0, TOKEN, SENT).unwrap();
    two_of_three.answer(0, TOKEN, Low(500));
    assert_eq!(two_of_three.decide(SENT, limits(false)), Decision::Wait);
    assert_eq!(two_of_three.decide(SENT, limits(true)), Decision::GiveUp(Failure::TooFew), "it hangs");
    two_of_three.answer(1, TOKEN, Granted);
    assert_eq!(two_of_three.decide(SENT, limits(false)), Decision::Correct);
    assert_eq!(decide(3, &[Low(500), held(90, 7)]), Decision::Wait, "the third may be free");
    assert_eq!(decide(5, &[Low(500), held(90, 7), held(80, 7), held(70, 7)]), busy(70));
}

#[test]
fn a_split_vote_is_settled_by_the_home_node() {
    let split = [Granted, held(90, 7), held(90, 8)];
    assert_eq!(decide(3, &split), Decision::Keep);
    let other = [held(90, 7), Granted, held(90, 8)];
    assert_eq!(decide(3, &other), busy(90), "it waits at home for the one that has it");
    let leased = [Granted, held(90, 7), held(90, 7)];
    assert_eq!(decide(3, &leased), busy(90), "one lease on a majority is no contender's");
    let mut round = round(3, &split);
    assert!(round.is_contended());
    for token in 101..109 {
        round.again(Decision::Keep, token, SENT);
        round.answer(0, token, Granted);
        round.answer(1, token, held(90, 7));
        round.answer(2, token, held(90, 8));
    }
    assert_eq!(round.decide(SENT, limits(false)), busy(90), "it gives way in the end");
    let late = SENT + Duration::from_millis(25);
    assert_eq!(decide_at(late, &split), busy(90), "or after a quarter of the TTL");
}

#[test]
fn no_contender_gives_way_before_the_home_has_answered() {
    let mut split = round(3, &[]);
    split.answer(1, TOKEN, held(90, 7));
    split.answer(2, TOKEN, held(80, 8));
    assert_eq!(split.decide(SENT, limits(false)), Decision::Wait);
    assert_eq!(split.decide(SENT, limits(true)), busy(80), "the home hangs");
    split.answer(0, TOKEN, Granted);
    assert_eq!(split.decide(SENT, limits(false)), Decision::Keep);
    let mut leased = round(3, &[]);
    leased.answer(1, TOKEN, held(90, 7));
    leased.answer(2, TOKEN, held(80, 7));
    assert_eq!(leased.decide(SENT, limits(false)), busy(80), "whatever the home says");
}

#[test]
fn a_vote_without_a_rival_is_not_split() {
    let away = Decision::GiveUp(Failure::Undecided);
    assert_eq!(decide(3, &[Granted, Gone, Gone]), away, "asking again would change nothing");
}

#[test]
fn a_token_too_far_ahead_of_the_clocks_is_corrected() {
    // They stepped back, and have just told what time it is.
    let mut round = round(3, &[High(60), High(61)]);
    for token in [55, 58, 59] {
        assert_eq!(round.decide(SENT, limits(false)), Decision::Correct);
        assert_eq!(round.known(), 0, "that it may not be so high is no reason to be above it");
        round.again(Decision::Correct, token, SENT);
        round.answer(0, token, High(40));
        round.answer(1, token, Granted);
        assert_eq!(round.decide(SENT, limits(false)), Decision::Wait, "the third may grant it");
        round.answer(2, token, High(40));
    }
    assert_eq!(round.decide(SENT, limits(false)), Decision::GiveUp(Failure::TooFew));
}

fn decide_at(now: BootInstant, answers: &[Answer]) -> Decision {
    round(3, answers).decide(now, limits(false))
}

#[test]
fn a_node_that_hangs_costs_patience_only_if_its_vote_decides() {
    let undecided = round(3, &[held(90, 7), Granted]);
    assert_eq!(undecided.decide(SENT, limits(false)), Decision::Wait);
    assert_eq!(undecided.decide(SENT, limits(true)), busy(90), "home is held");
    let away = round(3, &[Granted, Gone, held(90, 7)]);
    assert_eq!(away.decide(SENT, limits(false)), Decision::Keep);
    let contended = round(5, &[Gone, Granted, held(90, 7), held(80, 8)]);
    assert_eq!(contended.decide(SENT, limits(true)), busy(80), "a majority once they are free");
    let unavailable = round(5, &[Gone, Gone, Gone, held(80, 8)]);
    assert_eq!(unavailable.decide(SENT, limits(true)), Decision::GiveUp(Failure::Undecided));
    let unknown = round(3, &[Gone, Granted]);
    assert_eq!(unknown.decide(SENT, limits(true)), Decision::GiveUp(Failure::Undecided));
}

#[test]
fn how_long_it_is_held_may_be_unknown() {
    let unknown = Answer::Held { left: None, token: 7 };
    assert_eq!(decide(3, &[unknown, unknown]), Decision::GiveUp(Failure::Busy(None)));
    assert_eq!(decide(5, &[unknown, held(3, 7), held(4, 7), held(5, 7)]), busy(4));
}

#[test]
fn whether_a_lease_is_held_beside_contenders_the_others_may_tell() {
    let told = |nodes, answers: &[Answer]| {
        let round = round(nodes, answers);
        (round.leased_token(), round.may_be_leased())
    };
    assert_eq!(told(3, &[held(9, 4), held(7, 5)]), (None, true), "the third tells");
    assert_eq!(told(3, &[held(9, 4), held(7, 5), held(7, 5)]), (Some(5), false));
    assert_eq!(told(3, &[held(9, 4), held(7, 5), held(7, 6)]), (None, false), "there is none");
    assert_eq!(told(3, &[held(9, 4), held(7, 5), Gone]), (None, false));
    assert_eq!(told(3, &[held(7, 5)]), (None, false), "no other owner is known");
    assert_eq!(told(5, &[held(9, 4), held(7, 5), held(7, 6)]), (None, true));
    assert_eq!(told(5, &[held(9, 4), held(7, 5), held(7, 6), Granted]), (None, false));
}

#[test]
fn which_owners_may_have_the_lease() {
    let possible = |nodes, answers: &[Answer]| round(nodes, answers).possible_tokens();
    assert_eq!(possible(3, &[held(9, 4), held(7, 5)]), [4, 5], "the third may tell");
    assert_eq!(possible(3, &[held(9, 4), held(7, 5), Gone]), [4, 5], "the third may have either");
    assert_eq!(possible(3, &[held(9, 4), held(7, 5), held(7, 5)]), [5]);
    assert_eq!(possible(3, &[held(9, 4), held(7, 5), held(7, 6)]), []);
    assert_eq!(possible(3, &[held(7, 5), Granted, Gone]), [5]);
    assert_eq!(possible(5, &[held(9, 4), held(7, 5), held(7, 5), Granted, Gone]), [5]);
}
