//! A mutex whose data outlives a panic.

use std::fmt;
use std::sync::{MutexGuard, PoisonError, TryLockError};

/// [`std::sync::Mutex`] without poisoning: every critical section of this crate leaves its data whole at each
/// step, so data that a panic left behind is safe to use. Blocking, because nothing awaits while it is held.
#[derive(Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex that is not locked.
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Locks it, waiting for the thread that has it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks it unless another thread has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The data, which no other thread can be using.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_it_is_locked_leaves_it_usable() {
        let mut value = Mutex::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            *value.lock() = 2;
            let _guard = value.lock();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*value.lock(), 2);
        assert_eq!(value.try_lock().as_deref(), Some(&2));
        assert_eq!(*value.get_mut(), 2);
        let _held = value.lock();
        assert!(value.try_lock().is_none());
    }
}
