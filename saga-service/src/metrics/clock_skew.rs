//! How far this machine's clock is from the database's.
//!
//! What is due is the database's to say; but an event's time, its age and a parked saga's are this machine's.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use saga_core::store::StoreError;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(60);

/// How soon again when the database did not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Clocks that are kept by NTP differ by milliseconds.
const TOLERATED: f64 = 2.0;

/// Positive when this machine's clock is ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockSkew(Gauge<f64, AtomicU64>);

impl ClockSkew {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let skew = Self::default();
        let help = "How far this machine's clock is ahead of the database's; 0 until it is known";
        registry.sub_registry_with_prefix("saga").register("clock_skew_seconds", help, skew.0.clone());
        skew
    }

    /// Compares the clocks again and again.
    pub(crate) async fn watch(self, ask: impl AsyncFn() -> Result<Timestamp, StoreError>) {
        loop {
            let (asked, before) = (Instant::now(), Timestamp::now());
            let pause = match ask().await {
                Ok(told) => {
                    self.learn(before, asked.elapsed(), told);
                    EVERY
                }
                // Others say so.
                Err(_) => RETRY,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The database read its clock some time between question and answer: what that explains is no skew.
    fn learn(&self, before: Timestamp, took: Duration, told: Timestamp) {
        let (took, ahead) = (took.as_secs_f64(), before.duration_since(told).as_secs_f64());
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
        for (told, expected) in [(-600, 600.0), (0, 0.0), (1, 0.0), (601, -600.0)] {
            skew.learn(before, took, before + jiff::SignedDuration::from_secs(told));
            assert!((skew.0.get() - expected).abs() < 0.001, "{told}: {}", skew.0.get());
        }
    }
}
