//! Makes the server notice that a WAIT's time is over. Redis does so only when something happens, or up to 100 ms later; a
//! PING on another connection is something that happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backend::redis::connection::shared::Control;
use crate::backend::redis::connection::timeout::Alarm;

/// The pauses between PINGs: the time of a WAIT counts from when the server came to it, which we do not know. Each is
/// twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

/// Watches over the WAITs of one connection, one at a time.
pub(crate) struct Nudger {
    alarm: Arc<Alarm>,
    task: AbortHandle,
}

impl Nudger {
    /// One that PINGs on this connection.
    pub fn start(control: Arc<Control>) -> Self {
        let alarm = Arc::new(Alarm::default());
        let task = tokio::spawn(nudge(Arc::clone(&alarm), control));
        Self { alarm, task: task.abort_handle() }
    }

    /// Watches over a WAIT of this length that was just sent, until the answer is dropped.
    pub fn over(&self, time: Duration) -> impl Drop {
        self.alarm.set(Instant::now() + time + PAUSES.0);
        Over(&self.alarm)
    }
}

impl Drop for Nudger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Over<'a>(&'a Alarm);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

async fn nudge(alarm: Arc<Alarm>, control: Arc<Control>) {
    let (first, longest) = PAUSES;
    let (mut last, mut pause) = (None, first);
    loop {
        let passed = alarm.passed().await;
        pause = if last == Some(passed) { (pause * 2).min(longest) } else { first };
        last = Some(passed);
        control.nudge();
        alarm.again(passed, Instant::now() + pause);
    }
}
