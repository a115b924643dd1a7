//! How a connection ends when its server is not the right one any more.

use std::sync::Arc;

use super::exchanges::Shared;
use super::route::Retire;

impl Retire for Shared {
    fn retire(&self, why: &Arc<str>) {
        let idle = {
            let mut state = self.state.lock();
            state.retired.get_or_insert_with(|| Arc::clone(why));
            state.pending.is_empty()
        };
        if idle {
            self.break_off(why);
        }
    }

    fn cut(&self, why: &Arc<str>) {
        self.state.lock().retired.get_or_insert_with(|| Arc::clone(why));
        self.break_off(why);
    }
}
