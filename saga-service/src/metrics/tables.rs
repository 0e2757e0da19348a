//! Sizes and ages of a participant's tables, read at each scrape.

use std::{
    fmt::{self, Debug},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::gauge::ConstGauge, registry::Registry,
};
use saga_core::{
    clock::{Clock, SystemClock},
    store::{StoreError, Summary},
};

use super::gauge;

/// Time limit, so that an unreachable database does not delay the other metrics.
const PATIENCE: Duration = Duration::from_secs(2);

type Ask = dyn Fn() -> BoxFuture<'static, Result<Summary, StoreError>> + Send + Sync;

/// Metrics that only the database knows. They are missing while it does not answer: an old value would keep an alert
/// on, or off.
#[derive(Clone)]
pub(crate) struct Tables {
    ask: Arc<Ask>,
    measured: Measured,
}

/// The last figures and their time; none when the database did not answer.
#[derive(Clone, Debug, Default)]
struct Measured(Arc<Mutex<Option<(Summary, Timestamp)>>>);

impl Tables {
    pub(crate) fn register<A>(registry: &mut Registry, ask: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Result<Summary, StoreError>> + Send + 'static,
    {
        let measured = Measured::default();
        registry.register_collector(Box::new(measured.clone()));
        Self { ask: Arc::new(move || Box::pin(ask())), measured }
    }

    pub(crate) async fn refresh(&self) {
        self.measured.set(match tokio::time::timeout(PATIENCE, (self.ask)()).await {
            Ok(Ok(summary)) => {
                // Times that the database wrote are compared with its own clock.
                let at = summary.at.unwrap_or_else(|| SystemClock.now());
                Some((summary, at))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the tables were not measured");
                None
            }
            Err(_) => {
                tracing::debug!("measuring the tables took too long");
                None
            }
        });
    }
}

impl Measured {
    fn set(&self, measured: Option<(Summary, Timestamp)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = measured;
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let measured = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let readable = ConstGauge::new(i64::from(measured.is_some()));
        gauge(
            &mut encoder,
            "saga_tables_readable",
            "Whether the database measured the sizes of its tables",
            &readable,
        )?;
        let Some((summary, at)) = measured else { return Ok(()) };
        let mut count = |name, help, count| gauge(&mut encoder, name, help, &ConstGauge::<u64>::new(count));
        count("saga_active", "Sagas that have begun and not ended", summary.unfinished_sagas)?;
        count("saga_parked", "Sagas parked and waiting for a retry", summary.parked_sagas)?;
        count("saga_blocked", "Sagas blocked by a dead letter", summary.blocked_sagas)?;
        let help = "Compensations that failed for good and without which their sagas went on";
        count("saga_failed_compensations", help, summary.failed_compensations)?;
        count("saga_outbox_pending", "Outbox rows not yet marked sent", summary.outbox_pending)?;
        count("saga_deadlines_waiting", "Deadlines armed and not due yet", summary.timers)?;
        let mut age = |name, help, since: Option<Timestamp>| {
            let age = since.map_or(0.0, |since| at.duration_since(since).as_secs_f64().max(0.0));
            gauge(&mut encoder, name, help, &ConstGauge::new(age))
        };
        let help = "Time since the oldest saga began that has not ended; 0 when there is none";
        age("saga_oldest_unfinished_age_seconds", help, summary.unfinished_oldest)?;
        let help = "Time since the saga that has been parked longest failed first; 0 when there is none";
        age("saga_parked_oldest_age_seconds", help, summary.parked_oldest)?;
        age("saga_outbox_oldest_age_seconds", "Age of the oldest outbox row not yet marked sent", summary.outbox_oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use prometheus_client::encoding::text::encode;

    use super::*;

    fn samples(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn every_number_of_the_tables_has_its_own_name() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let since = |seconds| Some(at - Duration::from_secs(seconds));
        let summary = Summary {
            outbox_pending: 1,
            outbox_oldest: since(20),
            parked_sagas: 3,
            blocked_sagas: 4,
            parked_oldest: since(50),
            failed_compensations: 9,
            timers: 6,
            unfinished_sagas: 7,
            unfinished_oldest: since(80),
            at: Some(at),
        };
        let (mut registry, measured) = (Registry::default(), Measured::default());
        registry.register_collector(Box::new(measured.clone()));
        measured.set(Some((summary, at)));
        let mut lines = samples(&registry);
        lines.sort();
        let expected = [
            "saga_active 7",
            "saga_blocked 4",
            "saga_deadlines_waiting 6",
            "saga_failed_compensations 9",
            "saga_oldest_unfinished_age_seconds 80.0",
            "saga_outbox_oldest_age_seconds 20.0",
            "saga_outbox_pending 1",
            "saga_parked 3",
            "saga_parked_oldest_age_seconds 50.0",
            "saga_tables_readable 1",
        ];
        assert_eq!(lines, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_database_does_not_tell_is_not_told() {
        static TURN: AtomicU8 = AtomicU8::new(0);
        let mut registry = Registry::default();
        let tables = Tables::register(&mut registry, async || match TURN.load(Ordering::Relaxed) {
            0 => Ok(Summary { blocked_sagas: 2, ..Summary::default() }),
            1 => Err(StoreError::Unavailable("away".to_owned())),
            _ => std::future::pending().await,
        });
        let unreadable = ["saga_tables_readable 0"];
        assert_eq!(samples(&registry), unreadable, "before anybody has asked");
        for turn in [1, 2] {
            TURN.store(0, Ordering::Relaxed);
            tables.refresh().await;
            assert!(samples(&registry).contains(&"saga_blocked 2".to_owned()));
            TURN.store(turn, Ordering::Relaxed);
            tables.refresh().await;
            assert_eq!(samples(&registry), unreadable);
        }
    }
}
