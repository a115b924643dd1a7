//! What locks in the memory of one manager guarantee.

use crate::backend::guarantees::{FailureModes, Guarantee, Judgement, PAUSE};

/// The same for every such manager.
pub fn guarantee() -> Guarantee {
    let no_server = || Judgement::not_applicable("there is no server");
    Guarantee {
        summary: "Local locks in the memory of this LockManager, for tests: one holder per resource among its \
                  own callers. No other manager, worker or process sees them, and nothing of them outlives the \
                  manager. Leases end by the boot clock, so setting the wall clock does not end them early. \
                  Fencing tokens rise for each resource, also from one manager to the next, as long as the \
                  wall clock is not behind the last token."
            .to_owned(),
        warnings: vec![
            "These locks protect nothing from other managers, workers and processes: for more than tests, set \
             `local` to the path of a file."
                .to_owned(),
        ],
        survives: FailureModes {
            process_crash: Judgement::yes("all possible holders are in the process that crashed"),
            pause: Judgement::with_guard(PAUSE),
            primary_crash: no_server(),
            failover: no_server(),
            partition: Judgement::not_applicable("all possible holders are in this process"),
            clock_step: Judgement::yes("leases end by the boot clock, which cannot be set"),
            power_loss: Judgement::yes(
                "all possible holders are in the process that died; tokens keep rising as long as the wall \
                 clock is not behind the last one",
            ),
        },
        ..Guarantee::default()
    }
}
