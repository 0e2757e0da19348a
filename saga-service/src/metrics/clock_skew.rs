//! The difference between this machine's clock and the database's.
//!
//! The database's clock decides what is due; an event's time and age, and a parked saga's, come from this machine's.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use saga_core::store::StoreError;

/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(60);

/// Pause after an unanswered question.
const RETRY: Duration = Duration::from_secs(2);

/// Larger differences are logged; NTP keeps clocks within milliseconds.
const TOLERATED: f64 = 2.0;

/// The gauge; positive when this machine's clock is ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockSkew(Gauge<f64, AtomicU64>);

impl ClockSkew {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let skew = Self::default();
        let help = "How far this machine's clock is ahead of the database's; 0 until it is known";
        registry.sub_registry_with_prefix("saga").register("clock_skew_seconds", help, skew.0.clone());
        skew
    }

    /// Compares the clocks until it is dropped.
    pub(crate) async fn watch(self, ask: impl AsyncFn() -> Result<Timestamp, StoreError>) {
        loop {
            let (asked, before) = (Instant::now(), Timestamp::now());
            let pause = match ask().await {
                Ok(theirs) => {
                    self.learn(before, asked.elapsed(), theirs);
                    EVERY
                }
                // Readiness reports the failure.
                Err(_) => RETRY,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Records the difference. The database read its clock between question and answer, so that time is subtracted.
    fn learn(&self, before: Timestamp, took: Duration, theirs: Timestamp) {
        let (took, ahead) = (took.as_secs_f64(), before.duration_since(theirs).as_secs_f64());
        let skew = if ahead > 0.0 { ahead } else { (ahead + took).min(0.0) };
        self.0.set(skew);
        if skew.abs() > TOLERATED {
            tracing::warn!(
                seconds = skew,
                "this machine's clock is not the database's: times of events and ages are off by that much"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_way_to_the_database_takes_is_no_skew() {
        let (skew, before) = (ClockSkew::default(), Timestamp::from_second(1_800_000_000).unwrap());
        let took = Duration::from_secs(1);
        for (theirs, expected) in [(-600, 600.0), (0, 0.0), (1, 0.0), (601, -600.0)] {
            skew.learn(before, took, before + jiff::SignedDuration::from_secs(theirs));
            assert!((skew.0.get() - expected).abs() < 0.001, "{theirs}: {}", skew.0.get());
        }
    }
}
