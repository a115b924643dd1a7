//! What the Sentinels add to the guarantee of the primary.

use super::election::{Weakness, majority};
use super::locator::Locator;
use super::round::Round;
use crate::backend::guarantees::Guarantee;

pub(super) fn describe(guarantee: &mut Guarantee, locator: &Locator, survey: &Round, acks: u32) {
    let (answering, known) = survey.turnout();
    let adopted = locator.adopted();
    let epoch = match adopted.as_ref().and_then(|adopted| adopted.vote.epoch) {
        Some(epoch) => format!(" in epoch {epoch}"),
        None => String::new(),
    };
    guarantee.summary = format!(
        "The primary of {:?}{epoch}, by {answering} of {known} Sentinels. {}",
        locator.name, guarantee.summary
    );
    let weakness = adopted.and_then(|adopted| adopted.weakness);
    guarantee.warnings.extend(weakness.and_then(weakness_warning));
    let declared = guarantee.replicas_declared.unwrap_or(0);
    let warnings = [turnout_warning(answering, known), number_warning(known), acks_warning(acks, declared)];
    guarantee.warnings.extend(warnings.into_iter().flatten());
}

fn turnout_warning(answering: usize, known: usize) -> Option<String> {
    if answering >= known {
        return None;
    }
    let meaning = if answering >= majority(known) {
        "a majority still does"
    } else {
        "fewer than a majority cannot choose a new primary, and may name an old one"
    };
    let verb = if answering == 1 { "answers" } else { "answer" };
    Some(format!(
        "{answering} of {known} Sentinels {verb}: {meaning}; start the others, or run SENTINEL RESET on each \
         if they have gone for good"
    ))
}

fn number_warning(known: usize) -> Option<String> {
    (known < 3).then(|| {
        format!(
            "{} known: without {} there is no failover, because a majority must agree; run three or more, \
             on hosts that fail independently",
            if known == 1 { "a single Sentinel is" } else { "two Sentinels are" },
            if known == 1 { "it" } else { "either of them" },
        )
    })
}

/// What a planned failover does was measured with Redis 6 and 7: the old primary is demoted 11 s after the
/// new one was promoted.
fn acks_warning(acks: u32, declared: u32) -> Option<String> {
    if declared == 0 {
        return None;
    }
    let two = "during a failover there can be two writable primaries (for about 11 s after a planned one of \
               Redis up to 7, and after a partition)";
    Some(if acks >= declared {
        format!(
            "the safe profile: acks is 'all', so of two primaries none but the new one can grant; {two}. \
             In return no lock is granted after a failover until all {declared} declared replicas are connected \
             to the new primary; with acks: {} and a guard locks are available with one less",
            declared.saturating_sub(1)
        )
    } else {
        format!(
            "the available profile: {acks} of {declared} replicas are enough, so locks are granted with a \
             replica less, but {two}, and both can grant the same lock: use a guard, or acks: 'all'; two leases \
             may then even have the same token"
        )
    })
}

/// A weakness that the number of Sentinels does not show.
fn weakness_warning(weakness: Weakness) -> Option<String> {
    match weakness {
        Weakness::FewAnswer { .. } => None,
        Weakness::NoMajority { supporters, known } => Some(format!(
            "{supporters} of {known} Sentinels name the primary that is in use, no majority: the others name \
             another, or none; check that all of them can reach each other"
        )),
        Weakness::LowerEpoch => Some(
            "the Sentinels went back to a lower epoch than they had: they were created again, or restored; \
             see that they watch the right primary"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_say_how_many_sentinels_there_are_and_what_the_acks_give() {
        assert_eq!(turnout_warning(3, 3), None);
        assert!(turnout_warning(1, 3).unwrap().starts_with("1 of 3 Sentinels answers: fewer"));
        assert!(turnout_warning(2, 3).unwrap().contains("majority still does"));
        assert!(number_warning(1).unwrap().starts_with("a single Sentinel is known"));
        assert!(number_warning(2).unwrap().starts_with("two Sentinels are known"));
        assert_eq!(number_warning(3), None);
        assert!(acks_warning(2, 2).unwrap().contains("with acks: 1 and a guard"));
        let available = acks_warning(1, 2).unwrap();
        assert!(available.starts_with("the available profile: 1 of 2"), "{available}");
        assert!(available.contains("may then even have the same token"), "{available}");
        assert_eq!(acks_warning(0, 0), None);
        assert_eq!(weakness_warning(Weakness::FewAnswer { answering: 1, known: 3 }), None);
        assert!(weakness_warning(Weakness::LowerEpoch).unwrap().contains("lower epoch"));
    }
}
