//! Every metric that the runtime registers changes when its event occurs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use common::{events::events, trip::Expired};
use prometheus_client::{encoding::text::encode, registry::Registry};
use saga_core::{
    Event, Never, Outcome, Participant, RetryPolicy, Rounds, SagaId, Step, StepError, StepResult,
    clock::Clock,
    envelope::{Outgoing, header, seal},
    event::EventType,
    handler::{Call, Cx},
    record::{Header, OutRecord},
    runtime::{Handle, Options, Runtime},
    step::{BreakerPolicy, EffectLimits},
    store::Store,
    testing::{MemoryBroker, MemoryStore, VirtualClock},
    trace::TraceContext,
};
use uuid::Uuid;

events! {
    Booked = "trip.booked" on "trip.events" { mood: String }
    Cancelled = "trip.cancelled" on "trip.events" { mood: String }
    Withdrawn = "trip.withdrawn" on "trip.events" {}
    Noted = "trip.noted" on "trip.events" {}
    Seated = "trip.seated" on "trip.events" {}
    Left = "trip.left" on "trip.events" {}
    Stood = "seat.stood" on "seat.events" {}
    Taken = "seat.taken" on "seat.events" {}
    Freed = "seat.freed" on "seat.events" {}
}

impl From<Cancelled> for Freed {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id }
    }
}

impl From<Left> for Stood {
    fn from(why: Left) -> Self {
        Self { id: why.id }
    }
}

impl From<Withdrawn> for Cancelled {
    fn from(why: Withdrawn) -> Self {
        Self { id: why.id, mood: "fine".to_owned() }
    }
}

async fn ask(_: &Call, trip: &Booked) -> Result<(), StepError> {
    match trip.mood.as_str() {
        "down" => Err(StepError::infrastructure("no connection")),
        _ => {
            // Long enough to be observed in flight.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
    }
}

async fn take(cx: &mut Cx<'_, MemoryStore>, trip: Booked, (): ()) -> StepResult<Taken> {
    match trip.mood.as_str() {
        "patient" if cx.round() == 0 => Ok(Outcome::Again { after: Duration::from_millis(50) }),
        "broken" => Err(StepError::permanent("no such seat")),
        "waiting" => Ok(Outcome::Quiet),
        _ => Ok(Outcome::Success(Taken { id: trip.id })),
    }
}

async fn free(cx: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    let tries: u32 = cx.tx().get("tries").unwrap_or(0);
    match why.mood.as_str() {
        "broken" if tries == 0 => Err(StepError::transient("not yet")),
        "hopeless" => Err(StepError::permanent("that seat is gone")),
        _ => Ok(why.into()),
    }
}

async fn sit(_: &mut Cx<'_, MemoryStore>, _: Seated) -> StepResult<Never> {
    Ok(Outcome::Quiet)
}

async fn stand(_: &mut Cx<'_, MemoryStore>, _: Left) -> Result<Stood, StepError> {
    Err(StepError::permanent("fell asleep"))
}

async fn expire(_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
    Ok(sagas.into_iter().map(|saga| Outcome::Success(Expired { id: saga.as_uuid() })).collect())
}

fn seats() -> Participant<MemoryStore> {
    let breaker = BreakerPolicy { failure_share: 0.5, window: 2, open_for: Duration::from_secs(1) };
    let limits = EffectLimits { breaker, ..EffectLimits::default() };
    let step = Step::with_effect("take", ask, take)
        .undone_by(free)
        .on::<(Cancelled, Withdrawn)>()
        .deadline(Duration::from_secs(60), expire)
        .effect_limits(limits)
        .again(Rounds::at_most(2))
        .retry(RetryPolicy::fixed(Duration::from_millis(50), 4));
    let sit = Step::new("sit", sit).undone_by(stand).best_effort();
    Participant::named("seat").step(step).step(sit).completes_with::<Taken>().compensates_with::<Freed>()
}

fn record<E: Event>(event: &E, id: Uuid, clock: VirtualClock) -> OutRecord {
    let outgoing = Outgoing {
        id,
        source: "test",
        saga_id: Event::saga_id(event),
        causation_id: None,
        time: clock.now(),
        trace: &TraceContext::default(),
        null_compensation: false,
    };
    seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing)
}

/// The names of the samples that are not zero. A histogram is represented by its count.
fn moved(registry: &Registry) -> BTreeSet<String> {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let samples =
        text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0") && !line.ends_with(" 0.0"));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// The names of all metric families, from the `# TYPE` lines.
fn registered(registry: &Registry) -> Vec<(String, String)> {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

#[test]
fn metrics_that_alerts_use_are_exposed_with_0_from_the_start() {
    let (broker, clock) = (MemoryBroker::new(1), VirtualClock::start());
    let handle = Handle::new("seat", MemoryStore::default(), broker.producer(), clock);
    let mut registry = Registry::default();
    handle.metrics().register(&mut registry);
    let _runtime = Runtime::new(seats(), handle, Options::default());
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for sample in [
        "saga_dead_letters_total{reason=\"undecodable\"} 0",
        "saga_compensations_failed_total{step=\"take\"} 0",
        "saga_compensations_dead_lettered_total{step=\"take\"} 0",
        "saga_compensations_failed_for_good_total{step=\"sit\"} 0",
        "saga_finished_total{outcome=\"partly_compensated\"} 0",
        "saga_effect_calls_total{step=\"take\",result=\"rejected\"} 0",
        "saga_breaker_open{step=\"take\"} 0",
        "saga_finished_total{outcome=\"compensated\"} 0",
        "saga_retries_total{step=\"take\",op=\"compensate\"} 0",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_registered_metric_changes() {
    let (broker, store, clock) = (MemoryBroker::new(1), MemoryStore::default(), VirtualClock::start());
    let handle = Handle::new("seat", store.clone(), broker.producer(), clock);
    let mut registry = Registry::default();
    handle.metrics().register(&mut registry);
    let consumer = broker.subscribe("seat", &seats().declaration().consumed_topics());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runtime = Runtime::new(seats(), handle, Options::default()).run(consumer, async {
        let _ = stopped.await;
    });
    let seen: RefCell<BTreeSet<String>> = RefCell::default();
    let tick = async || {
        clock.sleep(Duration::from_millis(5)).await;
        seen.borrow_mut().extend(moved(&registry));
    };
    let publish = |record: OutRecord| broker.append(record);
    let booked = |mood: &str| Booked { id: Uuid::now_v7(), mood: mood.to_owned() };
    let cancelled = |trip: &Booked, mood: &str| Cancelled { id: trip.id, mood: mood.to_owned() };
    let drive = async {
        let (fine, hopeless, late, waiting) = (booked("fine"), booked("fine"), booked("fine"), booked("waiting"));
        // Twice, under two ids, too late, compensated for two events, broken, unknown, not acknowledged, past its deadline.
        let twice = record(&fine, Uuid::now_v7(), clock);
        publish(twice.clone());
        publish(twice);
        let mut ancient = record(&hopeless, Uuid::now_v7(), clock);
        ancient.headers.retain(|header| !header.is(header::TIME));
        ancient.headers.push(Header::text(header::TIME, "0042-01-01T00:00:00Z"));
        publish(ancient);
        publish(record(&fine, Uuid::now_v7(), clock));
        publish(record(&cancelled(&late, "fine"), Uuid::now_v7(), clock));
        for _ in 0..50 {
            tick().await;
        }
        publish(record(&late, Uuid::now_v7(), clock));
        publish(record(&Withdrawn { id: late.id }, Uuid::now_v7(), clock));
        publish(record(&cancelled(&fine, "broken"), Uuid::now_v7(), clock));
        publish(record(&cancelled(&hopeless, "hopeless"), Uuid::now_v7(), clock));
        publish(record(&booked("broken"), Uuid::now_v7(), clock));
        publish(record(&booked("patient"), Uuid::now_v7(), clock));
        publish(record(&Noted { id: Uuid::now_v7() }, Uuid::now_v7(), clock));
        publish(record(&waiting, Uuid::now_v7(), clock));
        let seated = Seated { id: Uuid::now_v7() };
        publish(record(&seated, Uuid::now_v7(), clock));
        for _ in 0..50 {
            tick().await;
        }
        publish(record(&Left { id: seated.id }, Uuid::now_v7(), clock));
        store.put("tries", &1).await;
        for _ in 0..4 {
            publish(record(&booked("down"), Uuid::now_v7(), clock));
        }
        let expired = || broker.records("seat.events").iter().any(|r| r.key == Some(waiting.id.to_string().into()));
        let mut ticks = 0;
        while !expired() {
            ticks += 1;
            assert!(ticks < 200, "the deadline never fires");
            clock.sleep(Duration::from_secs(1)).await;
        }
        for _ in 0..100 {
            tick().await;
        }
        drop(stop);
    };
    let (result, ()) = futures::join!(runtime, drive);
    result.unwrap();
    assert!(store.summary().await.unwrap().blocked_sagas >= 1);
    let seen = seen.into_inner();
    let still: Vec<String> = registered(&registry)
        .into_iter()
        .filter(|(name, kind)| {
            let sample = match kind.as_str() {
                "counter" => format!("{name}_total"),
                "histogram" => format!("{name}_count"),
                _ => name.clone(),
            };
            !seen.contains(&sample)
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(still, Vec::<String>::new(), "these never changed");
}

#[tokio::test(start_paused = true)]
async fn an_event_with_an_absurd_time_does_not_distort_the_waiting_times() {
    let (broker, clock) = (MemoryBroker::new(1), VirtualClock::start());
    let handle = Handle::new("seat", MemoryStore::default(), broker.producer(), clock);
    let mut registry = Registry::default();
    handle.metrics().register(&mut registry);
    let consumer = broker.subscribe("seat", &seats().declaration().consumed_topics());
    let runtime = Runtime::new(seats(), handle, Options::default()).run(consumer, std::future::pending());
    for time in ["0042-01-01T00:00:00Z", "9042-01-01T00:00:00Z"] {
        let mut event = record(&Booked { id: Uuid::now_v7(), mood: "fine".to_owned() }, Uuid::now_v7(), clock);
        event.headers.retain(|header| !header.is(header::TIME));
        event.headers.push(Header::text(header::TIME, time));
        broker.append(event);
    }
    let handled = async {
        while broker.records("seat.events").len() < 2 {
            clock.sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        result = runtime => panic!("{result:?}"),
        () = handled => {}
    }
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let sample = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    };
    assert!((sample("saga_event_wait_seconds_sum") - 2_592_000.0).abs() < 1.0, "one of 30 days, and one of none");
    assert!((sample("saga_event_wait_seconds_count") - 2.0).abs() < 0.1);
    assert!((sample("saga_event_time_implausible_total") - 2.0).abs() < 0.1);
}
