//! Whether recording is worth while: not for some time after the collector failed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Shut for a pause by each failure; after it, spans are recorded again, and the next export decides.
#[derive(Debug)]
pub(super) struct Gate {
    began: Instant,
    pause: Duration,
    /// In nanoseconds since it began; 0 while it is open.
    shut_until: AtomicU64,
    failing: AtomicBool,
}

impl Gate {
    pub(super) fn new(pause: Duration) -> Self {
        Self { began: Instant::now(), pause, shut_until: AtomicU64::new(0), failing: AtomicBool::new(false) }
    }

    /// Asked for every span, so it reads no clock while all is well.
    pub(super) fn is_open(&self) -> bool {
        match self.shut_until.load(Relaxed) {
            0 => true,
            until => self.now() >= until,
        }
    }

    /// Tells whether this failure is the first of a series.
    pub(super) fn failed(&self) -> bool {
        let pause = u64::try_from(self.pause.as_nanos()).unwrap_or(u64::MAX);
        self.shut_until.store(self.now().saturating_add(pause).max(1), Relaxed);
        !self.failing.swap(true, Relaxed)
    }

    /// Tells whether this success ends a series of failures.
    pub(super) fn succeeded(&self) -> bool {
        self.shut_until.store(0, Relaxed);
        self.failing.swap(false, Relaxed)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shuts_it_for_the_pause_and_a_success_opens_it() {
        let gate = Gate::new(Duration::from_secs(3600));
        assert!(gate.is_open());
        assert!(gate.failed() && !gate.is_open());
        assert!(!gate.failed(), "only the first of a series");
        assert!(gate.succeeded() && gate.is_open());
        assert!(!gate.succeeded());
    }

    #[test]
    fn after_the_pause_recording_goes_on_until_the_next_failure() {
        let gate = Gate::new(Duration::ZERO);
        assert!(gate.failed());
        assert!(gate.is_open() && gate.is_failing());
    }
}
