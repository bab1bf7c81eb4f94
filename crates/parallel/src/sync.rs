//! Locks and atomics, by one name for the product and for the model checker.
//!
//! With the feature `shuttle`, every operation here is a point at which shuttle may switch threads,
//! so that a model run explores interleavings of the very code that ships.

#[cfg(not(feature = "shuttle"))]
mod product {
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
    pub(crate) use std::{
        sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
        thread::yield_now,
    };

    /// Tells the core that this is a spin loop.
    pub(crate) fn spin_loop() {
        std::hint::spin_loop();
    }
}

#[cfg(feature = "shuttle")]
mod model {
    pub(crate) use shuttle::{
        sync::{
            MutexGuard,
            atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
        },
        thread::yield_now,
    };

    const POISONED: &str = "a model thread panicked; the model run has failed already";

    /// shuttle's mutex with parking_lot's signatures.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect(POISONED)
        }
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().expect(POISONED)
        }
    }

    /// shuttle's read-write lock with parking_lot's signatures.
    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
            self.0.read().expect(POISONED)
        }
        pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().expect(POISONED)
        }
    }

    pub(crate) fn spin_loop() {
        yield_now();
    }
}

#[cfg(feature = "shuttle")]
pub(crate) use model::*;
#[cfg(not(feature = "shuttle"))]
pub(crate) use product::*;

/// How long a worker without work leaves the core to others.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pauses: u32,
}

impl Backoff {
    /// Spins between two yields of the core.
    const SPINS: u32 = 64;

    /// Waits a moment, longer ones in between.
    pub(crate) fn pause(&mut self) {
        self.pauses = self.pauses.wrapping_add(1);
        if self.pauses.is_multiple_of(Self::SPINS) { yield_now() } else { spin_loop() }
    }
}
