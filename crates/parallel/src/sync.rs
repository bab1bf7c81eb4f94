//! Locks and atomics, by one name for the product and for the model checker.
//!
//! With the feature `shuttle`, every operation here is a point at which shuttle may switch threads,
//! so that a model run explores interleavings of the very code that ships. With `delays`, a thread
//! may be held up at every one of them, so that real runs meet interleavings that are rare otherwise.

#[cfg(not(any(feature = "shuttle", feature = "delays")))]
mod product {
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
    pub(crate) use std::{
        sync::atomic::{
            AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        },
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
            atomic::{
                AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
            },
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

#[cfg(all(feature = "delays", not(feature = "shuttle")))]
mod delayed {
    pub(crate) use parking_lot::{MutexGuard, RwLock};
    use std::{
        cell::Cell,
        hash::{BuildHasher, RandomState},
        sync::atomic,
        thread,
        time::Duration,
    };
    pub(crate) use std::{sync::atomic::Ordering, thread::yield_now};

    /// One operation in so many lets others go first, and one in so many waits for longer.
    const YIELDS_EVERY: u64 = 64;
    const SLEEPS_EVERY: u64 = 4_096;

    thread_local! {
        /// Never zero (xorshift).
        static RANDOM: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u64) | 1);
    }

    fn maybe_wait() {
        let mut random = RANDOM.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        RANDOM.set(random);
        if random.is_multiple_of(SLEEPS_EVERY) {
            thread::sleep(Duration::from_micros(random >> 32 & 63));
        } else if random.is_multiple_of(YIELDS_EVERY) {
            yield_now();
        }
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(atomic::$name);

            impl $name {
                pub(crate) const fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }
                pub(crate) fn load(&self, order: Ordering) -> $value {
                    maybe_wait();
                    self.0.load(order)
                }
                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    maybe_wait();
                    self.0.store(value, order);
                }
            }
        };
    }

    macro_rules! exchange {
        ($($name:ident, $value:ty);*) => {$(
            impl $name {
                pub(crate) fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    maybe_wait();
                    self.0.compare_exchange(from, to, success, failure)
                }
            }
        )*};
    }

    macro_rules! add {
        ($($name:ident, $value:ty);*) => {$(
            impl $name {
                pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    maybe_wait();
                    self.0.fetch_add(value, order)
                }
            }
        )*};
    }

    atomic!(AtomicBool, bool);
    atomic!(AtomicU8, u8);
    atomic!(AtomicU16, u16);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
    exchange!(AtomicU8, u8; AtomicU64, u64; AtomicUsize, usize);
    add!(AtomicU32, u32; AtomicUsize, usize);

    impl AtomicUsize {
        pub(crate) fn fetch_max(&self, value: usize, order: Ordering) -> usize {
            maybe_wait();
            self.0.fetch_max(value, order)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            maybe_wait();
            self.0.lock()
        }
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            maybe_wait();
            self.0.try_lock()
        }
        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    pub(crate) fn spin_loop() {
        std::hint::spin_loop();
    }
}

#[cfg(all(feature = "delays", not(feature = "shuttle")))]
pub(crate) use delayed::*;
#[cfg(feature = "shuttle")]
pub(crate) use model::*;
#[cfg(not(any(feature = "shuttle", feature = "delays")))]
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
