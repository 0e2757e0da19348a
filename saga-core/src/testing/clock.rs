//! A clock that follows tokio's, which tests pause and advance.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::clock::{Clock, after};

/// Starts at 2026-01-01T00:00:00Z and moves with `tokio::time`: under `#[tokio::test(start_paused = true)]` it jumps to
/// the next timer.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    started: Instant,
}

impl VirtualClock {
    /// A clock that starts now. Needs a tokio runtime.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        const NEW_YEAR: i64 = 1_767_225_600;
        after(Timestamp::from_second(NEW_YEAR).unwrap_or(Timestamp::UNIX_EPOCH), self.started.elapsed())
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(duration)
    }
}
