//! One question to all Sentinels at once, and their answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::answers::{Announced, Answer};
use super::election::{Vote, is_clear, majority};
use super::instance::Sentinel;
use super::registry::Registry;
use crate::backend::redis::connection::connect::may_pass;
use crate::backend::redis::protocol::values::printable;
use crate::error::{Error, Result};

/// How long answers are waited for.
const ANSWER: Duration = Duration::from_millis(300);
/// Likewise for the first of all: the connections are still to be made.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// Likewise, once the others cannot change the result.
const LAST_ANSWERS: Duration = Duration::from_millis(5);

/// What one round of questions brought.
#[derive(Default)]
pub(super) struct Round {
    pub answers: Vec<(Arc<Sentinel>, Answer)>,
    /// Of Sentinels that could not be asked.
    errors: Vec<Error>,
    asked: usize,
}

impl Round {
    /// What those say that know the primary.
    pub fn votes(&self) -> Vec<Vote> {
        self.answers.iter().filter_map(|(_, answer)| answer.vote.clone()).collect()
    }

    /// How many Sentinels answered, and how many were asked.
    pub const fn turnout(&self) -> (usize, usize) {
        (self.answers.len(), self.asked)
    }

    /// The run id of the server that was voted for; `None` if it is not known, or they do not agree, as after
    /// its restart.
    pub fn run_id(&self, vote: &Vote) -> Option<Arc<str>> {
        let mut run_ids = self.answers.iter().filter_map(|(_, answer)| {
            answer.run_id.as_ref().filter(|_| answer.vote.as_ref().is_some_and(|other| other.agrees(vote)))
        });
        let first = run_ids.next()?;
        run_ids.all(|run_id| run_id == first).then(|| Arc::clone(first))
    }

    /// Why there is no point in asking again soon, if most of them say so.
    pub async fn failure(&self, name: &str) -> Option<Error> {
        if self.answers.iter().any(|(_, answer)| answer.vote.is_some()) {
            return None;
        }
        if self.answers.len() >= majority(self.asked) {
            let (first, _) = self.answers.first()?;
            let names = first.names().await;
            let others = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Some(Error::untouched(format!(
                "the Sentinel at {} watches no primary named {name:?}; the names that it knows: {others}; \
                 check the option `name`",
                first.address
            )));
        }
        // Those that are away may be back soon; a wrong password stays wrong.
        let is_final = self.errors.len() == self.asked && !self.errors.iter().any(may_pass);
        self.errors.first().filter(|_| is_final).cloned()
    }

    /// Why none of the Sentinels can be reached, if their systems said so of all of them at once. One that is
    /// silent may just be slow.
    pub fn unreachable(&self) -> Option<&Error> {
        let all = self.errors.len() == self.asked && self.errors.iter().all(is_refused);
        self.errors.first().filter(|_| all)
    }

    /// One sentence for messages.
    pub fn summary(&self) -> String {
        let answering = self.answers.len();
        let down = self.answers.iter().filter(|(_, answer)| answer.is_down).count();
        let named: BTreeSet<_> = self.votes().into_iter().map(|vote| vote.address).collect();
        if answering == 0 {
            let error = self.errors.first().map(ToString::to_string).unwrap_or_default();
            let what = error.split(';').next().unwrap_or_default();
            format!("none of {} Sentinels answers ({what})", self.asked)
        } else if down > 0 {
            format!("sentinels: {down} of {answering} say s_down")
        } else if named.is_empty() {
            format!("sentinels: {answering} of {} answer, and do not know it", self.asked)
        } else {
            let named: Vec<_> = named.iter().map(display).collect();
            format!("sentinels: {answering} of {} answer, and name {}", self.asked, named.join(" and "))
        }
    }
}

fn display((host, port): &Announced) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{}:{port}", printable(host)) }
}

/// Whether the system said at once that nothing is there.
pub(super) fn is_refused(error: &Error) -> bool {
    error.cause_code().is_some_and(|code| code != "ETIMEDOUT")
}

/// How long a round may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until it is clear what most of them say.
    Little,
    /// Likewise, and as long as no connection is made.
    UntilFirst,
    /// Until all have answered that do in time.
    UntilAll,
}

/// Asks all Sentinels at once.
pub(super) async fn ask(registry: &Registry, began: Instant, patience: Patience) -> Round {
    let sentinels = registry.all();
    let learn = registry.is_to_learn();
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Arc<Sentinel>, Result<Answer>)>();
    for sentinel in &sentinels {
        if sentinel.begin() {
            let (sentinel, sender) = (Arc::clone(sentinel), sender.clone());
            // It ends by itself: a connection that takes long to make is there for the next question.
            tokio::spawn(async move {
                let answer = sentinel.ask(learn).await;
                let _ = sender.send((sentinel, answer));
            });
        }
    }
    drop(sender);
    let mut round = Round { asked: sentinels.len(), ..Round::default() };
    let mut due = began + if patience == Patience::UntilFirst { FIRST_ANSWER } else { ANSWER };
    while let Ok(Some((sentinel, answer))) = timeout_at(due, receiver.recv()).await {
        match answer {
            Ok(answer) => round.answers.push((sentinel, answer)),
            Err(error) => round.errors.push(error),
        }
        if !round.answers.is_empty() {
            due = due.min((began + ANSWER).max(Instant::now()));
        }
        if patience != Patience::UntilAll && is_clear(&round.votes(), sentinels.len()) {
            due = due.min(Instant::now() + LAST_ANSWERS);
        }
    }
    registry.learn(&round.answers);
    round
}
