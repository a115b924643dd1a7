//! Which server is the primary, by what the Sentinels say? Decisions only: no I/O, no clock.
//!
//! Sentinels learn of a failover one after the other, and a Sentinel that was cut off may name an old primary
//! for good. Each failover has a higher epoch, so the highest that a majority supports is the newest truth.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// A lower epoch is believed if a majority still says so after this time: the Sentinels were created again.
/// Likewise one that has no majority, if there is none for this long.
const INSIST: Duration = Duration::from_secs(1);

/// What one Sentinel says of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vote {
    pub address: (Arc<str>, u16),
    /// Counts failovers. `None`: it does not say, as the discovery service of Redis Enterprise.
    pub epoch: Option<u64>,
}

/// A primary that was elected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elected {
    pub vote: Vote,
    /// Why this election is less certain than it should be.
    pub weakness: Option<Weakness>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weakness {
    /// Fewer than a majority answer.
    FewAnswer { answering: usize, known: usize },
    /// They do not agree, and this has the highest epoch.
    NoMajority { supporters: usize, known: usize },
    /// A majority went back to a lower epoch.
    LowerEpoch,
}

/// What the answers of one round mean.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Elected by the votes that are needed.
    Won(Elected),
    /// No majority; the vote with the highest epoch, if only one has it.
    Split(Option<Vote>),
}

/// What to do after a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The primary is the one that is in use.
    Confirmed(Option<Weakness>),
    /// Another one takes over.
    Adopt(Elected),
    /// Undecided.
    AskAgain,
}

/// The elections so far.
#[derive(Debug, Default)]
pub(super) struct Elections {
    current: Option<Vote>,
    /// What would be adopted if it is still so after a while, and since when it would.
    candidate: Option<(Vote, Instant)>,
}

/// The number of votes that is a majority of the Sentinels that are known.
pub(super) const fn majority(known: usize) -> usize {
    known / 2 + 1
}

impl Elections {
    /// Judges the votes of those Sentinels that answered in time, out of the known ones.
    pub fn judge(&mut self, votes: &[Vote], known: usize, now: Instant) -> Verdict {
        let outcome = count(votes, known);
        match (outcome, &self.current) {
            (Outcome::Won(elected), None) => self.adopt(elected),
            (Outcome::Won(elected), Some(current)) if current.agrees(&elected.vote) => {
                self.candidate = None;
                if current.epoch.is_none() {
                    self.current = Some(elected.vote);
                }
                Verdict::Confirmed(elected.weakness)
            }
            (Outcome::Won(elected), Some(current)) if elected.vote.epoch >= current.epoch => {
                self.adopt(elected)
            }
            // A few that are left over from before the last failover are no majority.
            (Outcome::Won(elected), Some(_)) if elected.weakness.is_none() => {
                self.insist(elected.vote, Weakness::LowerEpoch, now)
            }
            (Outcome::Split(Some(vote)), current)
                if current.as_ref().is_none_or(|current| vote.epoch > current.epoch) =>
            {
                let supporters = votes.iter().filter(|other| other.agrees(&vote)).count();
                self.insist(vote, Weakness::NoMajority { supporters, known }, now)
            }
            (Outcome::Won(_) | Outcome::Split(_), _) => {
                self.candidate = None;
                Verdict::AskAgain
            }
        }
    }

    fn adopt(&mut self, elected: Elected) -> Verdict {
        self.candidate = None;
        self.current = Some(elected.vote.clone());
        Verdict::Adopt(elected)
    }

    /// Adopts what has been said for long enough.
    fn insist(&mut self, vote: Vote, weakness: Weakness, now: Instant) -> Verdict {
        match &self.candidate {
            Some((candidate, since)) if *candidate == vote => {
                if now.saturating_duration_since(*since) < INSIST {
                    return Verdict::AskAgain;
                }
                self.adopt(Elected { vote, weakness: Some(weakness) })
            }
            _ => {
                self.candidate = Some((vote, now));
                Verdict::AskAgain
            }
        }
    }
}

impl Vote {
    /// A Sentinel that does not say the epoch agrees with all that say the same address.
    pub fn agrees(&self, other: &Self) -> bool {
        self.address == other.address
            && (self.epoch == other.epoch || self.epoch.is_none() || other.epoch.is_none())
    }
}

/// Whether these votes decide, whatever the Sentinels say that have not answered.
pub(super) fn is_clear(votes: &[Vote], known: usize) -> bool {
    let newest = votes.iter().map(|vote| vote.epoch).max();
    matches!(
        count(votes, known),
        Outcome::Won(Elected { vote, weakness: None }) if Some(vote.epoch) == newest
    )
}

fn count(votes: &[Vote], known: usize) -> Outcome {
    let supporters = |vote: &Vote| votes.iter().filter(|other| other.agrees(vote)).count();
    let needed = majority(known.max(votes.len()));
    if votes.len() >= needed {
        let with_majority = votes.iter().filter(|vote| supporters(vote) >= needed);
        if let Some(vote) = with_majority.max_by_key(|vote| vote.epoch) {
            return Outcome::Won(Elected { vote: vote.clone(), weakness: None });
        }
    }
    let highest = votes.iter().map(|vote| vote.epoch).max();
    let mut newest = votes.iter().filter(|vote| Some(vote.epoch) == highest);
    let newest = newest.next().filter(|first| newest.all(|vote| vote.address == first.address));
    match newest {
        Some(vote) if votes.len() < needed => {
            let weakness = Weakness::FewAnswer { answering: votes.len(), known };
            Outcome::Won(Elected { vote: vote.clone(), weakness: Some(weakness) })
        }
        newest => Outcome::Split(newest.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(host: &str, epoch: impl Into<Option<u64>>) -> Vote {
        Vote { address: (host.into(), 6379), epoch: epoch.into() }
    }

    /// The verdicts on rounds, each with the votes of so many known Sentinels, at a time in milliseconds.
    fn verdicts(rounds: &[(u64, usize, &[Vote])]) -> Vec<Verdict> {
        let mut elections = Elections::default();
        let start = Instant::now();
        let judge = |&(ms, known, votes): &(u64, usize, &[Vote])| {
            elections.judge(votes, known, start + Duration::from_millis(ms))
        };
        rounds.iter().map(judge).collect()
    }

    fn adopt(vote: Vote) -> Verdict {
        Verdict::Adopt(Elected { vote, weakness: None })
    }

    fn adopt_though(vote: Vote, weakness: Weakness) -> Verdict {
        Verdict::Adopt(Elected { vote, weakness: Some(weakness) })
    }

    #[test]
    fn a_majority_elects_and_a_newer_epoch_counts_once_it_has_one() {
        let (a, b) = (vote("a", 0), vote("b", 1));
        let all_a = [a.clone(), a.clone(), a.clone()];
        let first_b = [a.clone(), b.clone(), a.clone()];
        let most_b = [b.clone(), b.clone(), a.clone()];
        assert_eq!(
            verdicts(&[(0, 3, &all_a), (10, 3, &first_b), (20, 3, &most_b), (30, 3, &most_b)]),
            [adopt(a), Verdict::Confirmed(None), adopt(b), Verdict::Confirmed(None)]
        );
    }

    #[test]
    fn the_answers_of_a_majority_are_enough_and_stale_ones_do_not_count() {
        // One Sentinel names the old primary for good.
        let (old, new) = (vote("old", 4), vote("new", 7));
        let rounds = [old.clone(), new.clone(), new.clone()];
        assert_eq!(verdicts(&[(0, 3, &rounds)]), [adopt(new.clone())]);
        assert_eq!(verdicts(&[(0, 3, &rounds[1..])]), [adopt(new)], "without the third");
    }

    #[test]
    fn the_newest_is_taken_at_last_if_there_is_never_a_majority() {
        // The third has gone, and one of the others is stale for good.
        let (old, new) = (vote("old", 4), vote("new", 7));
        let votes = [old.clone(), new.clone()];
        let weakness = Weakness::NoMajority { supporters: 1, known: 3 };
        assert_eq!(
            verdicts(&[(0, 3, &votes), (900, 3, &votes), (1_000, 3, &votes), (1_100, 3, &votes)]),
            [
                Verdict::AskAgain,
                Verdict::AskAgain,
                adopt_though(new.clone(), weakness),
                Verdict::AskAgain, // it has no majority yet, and stays in use
            ]
        );
        // One that is in use is not left for the stale one.
        let rounds: [(u64, usize, &[Vote]); 3] =
            [(0, 3, &[new.clone(), new.clone()]), (10, 3, &votes), (2_000, 3, &votes)];
        assert_eq!(verdicts(&rounds), [adopt(new), Verdict::AskAgain, Verdict::AskAgain]);
    }

    #[test]
    fn if_fewer_than_a_majority_answer_theirs_counts_with_a_warning() {
        let few = |answering| Weakness::FewAnswer { answering, known: 5 };
        let (a, b) = (vote("a", 1), vote("b", 2));
        assert_eq!(verdicts(&[(0, 5, std::slice::from_ref(&a))]), [adopt_though(a.clone(), few(1))]);
        assert_eq!(verdicts(&[(0, 5, &[a.clone(), b.clone()])]), [adopt_though(b.clone(), few(2))]);
        // They may be the ones that were cut off.
        let votes = [b.clone(), b.clone(), b.clone()];
        let rounds: [(u64, usize, &[Vote]); 3] =
            [(0, 5, &votes), (10, 5, std::slice::from_ref(&a)), (5_000, 5, std::slice::from_ref(&a))];
        assert_eq!(verdicts(&rounds), [adopt(b), Verdict::AskAgain, Verdict::AskAgain]);
    }

    #[test]
    fn a_lower_epoch_needs_a_majority_that_insists() {
        let (new, old) = (vote("new", 7), vote("old", 0));
        let (all_new, all_old) = ([new.clone(), new.clone()], [old.clone(), old.clone()]);
        assert_eq!(
            verdicts(&[(0, 2, &all_new), (10, 2, &all_old), (500, 2, &all_old), (1_010, 2, &all_old)]),
            [
                adopt(new.clone()),
                Verdict::AskAgain,
                Verdict::AskAgain,
                adopt_though(old, Weakness::LowerEpoch)
            ]
        );
        let confirmed = Verdict::Confirmed(None);
        assert_eq!(
            verdicts(&[(0, 2, &all_new), (10, 2, &all_old), (900, 2, &all_new), (1_500, 2, &all_old)]),
            [adopt(new), Verdict::AskAgain, confirmed, Verdict::AskAgain],
            "one answer between counts against it"
        );
    }

    #[test]
    fn a_tie_elects_none() {
        let votes = [vote("a", 3), vote("b", 3)];
        assert_eq!(verdicts(&[(0, 2, &votes), (5_000, 2, &votes)]), [Verdict::AskAgain, Verdict::AskAgain]);
        assert_eq!(verdicts(&[(0, 5, &votes)]), [Verdict::AskAgain], "nor among a few");
    }

    #[test]
    fn the_same_address_in_a_newer_epoch_is_another_election() {
        let (before, after) = (vote("a", 1), vote("a", 3));
        assert_eq!(
            verdicts(&[(0, 1, std::slice::from_ref(&before)), (10, 1, std::slice::from_ref(&after))]),
            [adopt(before), adopt(after)]
        );
    }

    #[test]
    fn without_epochs_the_majority_of_addresses_counts() {
        let (a, b) = (vote("a", None), vote("b", None));
        let rounds: [(u64, usize, &[Vote]); 3] = [
            (0, 3, &[a.clone(), a.clone(), b.clone()]),
            (10, 3, &[a.clone(), b.clone(), b.clone()]),
            (20, 3, &[b.clone(), b.clone()]),
        ];
        assert_eq!(verdicts(&rounds), [adopt(a), adopt(b.clone()), Verdict::Confirmed(None)]);
        // One of them may not be allowed to ask for the epoch.
        assert_eq!(
            verdicts(&[(0, 3, &[b.clone(), vote("b", 5), b]), (10, 3, &[vote("b", 5)])]),
            [adopt(vote("b", 5)), Verdict::Confirmed(Some(Weakness::FewAnswer { answering: 1, known: 3 }))]
        );
    }

    #[test]
    fn nothing_is_elected_without_votes() {
        assert_eq!(verdicts(&[(0, 3, &[]), (5_000, 0, &[])]), [Verdict::AskAgain, Verdict::AskAgain]);
    }
}
