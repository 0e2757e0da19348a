//! The runtime on an in-memory store and broker, in virtual time: every rule that needs no real infrastructure.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use saga_core::{
    Event, Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult,
    handler::{Call, Cx},
    store::Store as _,
    testing::{MemoryStore, Scenario},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "stock.reserved", topic = "stock.events", saga = "id")]
struct Reserved {
    id: Uuid,
    card: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "trip.cancelled", topic = "trip.events", saga = "id")]
struct Cancelled {
    id: Uuid,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "pay.charged", topic = "pay.events", saga = "id")]
struct Charged {
    id: Uuid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "pay.declined", topic = "pay.events", saga = "id")]
struct Declined {
    id: Uuid,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "pay.refunded", topic = "pay.events", saga = "id")]
struct Refunded {
    id: Uuid,
    reason: String,
}

impl From<Cancelled> for Refunded {
    fn from(why: Cancelled) -> Self {
        Self { id: why.id, reason: why.reason }
    }
}

/// Fails as the card's name says; counts its calls.
#[derive(Clone, Default)]
struct Gateway {
    charges: Arc<AtomicUsize>,
    refunds: Arc<AtomicUsize>,
    voids: Arc<AtomicUsize>,
    /// Voiding fails this many times.
    deaf: Arc<AtomicUsize>,
}

impl Gateway {
    async fn charge(&self, reserved: &Reserved) -> Result<bool, StepError> {
        let calls = self.charges.fetch_add(1, Ordering::SeqCst) + 1;
        match reserved.card.as_str() {
            "declined" => Ok(false),
            "flaky" if calls < 3 => Err(StepError::transient("try again")),
            "timeout" => Err(StepError::transient("no answer")),
            "broken" => Err(StepError::permanent("never")),
            _ => Ok(true),
        }
    }
}

impl Gateway {
    async fn void(&self) -> Result<(), StepError> {
        if self.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(StepError::transient("the void failed"));
        }
        self.voids.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

async fn charge(cx: &mut Cx<'_, MemoryStore>, reserved: Reserved, ok: bool) -> StepResult<Charged, Declined> {
    if !ok {
        return Ok(Outcome::Refused(Declined { id: reserved.id, reason: "declined".into() }));
    }
    let charged: u32 = cx.tx().get("charged").unwrap_or(0);
    cx.tx().put("charged", &(charged + 1));
    Ok(Outcome::Success(Charged { id: reserved.id }))
}

async fn refund(cx: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Refunded, StepError> {
    let refunded: u32 = cx.tx().get("refunded").unwrap_or(0);
    cx.tx().put("refunded", &(refunded + 1));
    Ok(why.into())
}

fn payment(gateway: &Gateway) -> Participant<MemoryStore> {
    let (charging, refunding, voiding) = (gateway.clone(), gateway.clone(), gateway.clone());
    let step =
        Step::with_effect("charge", async move |_: &Call, reserved: &Reserved| charging.charge(reserved).await, charge)
            .undone_with_effect(
                async move |_: &Call, _: &Cancelled| {
                    refunding.refunds.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                },
                refund,
            )
            .retry(RetryPolicy::fixed(Duration::from_millis(50), 4))
            .when_exhausted_with_effect(
                async move |_: &Call, _: &Reserved| voiding.void().await,
                async |_: &mut Cx<'_, MemoryStore>, reserved: Reserved, _: &StepError| {
                    Ok(Declined { id: reserved.id, reason: "unavailable".into() })
                },
            );
    Participant::named("pay").step(step)
}

fn reserved(id: SagaId, card: &str) -> Reserved {
    Reserved { id: id.as_uuid(), card: card.into() }
}

fn cancelled(id: SagaId) -> Cancelled {
    Cancelled { id: id.as_uuid(), reason: "customer".into() }
}

struct Bench {
    gateway: Gateway,
    store: MemoryStore,
    id: SagaId,
}

impl Bench {
    fn new() -> Self {
        Self { gateway: Gateway::default(), store: MemoryStore::default(), id: SagaId::random() }
    }

    fn scenario(&self) -> Scenario<MemoryStore> {
        Scenario::new(payment(&self.gateway), self.store.clone())
    }

    fn charges(&self) -> usize {
        self.gateway.charges.load(Ordering::SeqCst)
    }

    fn refunds(&self) -> usize {
        self.gateway.refunds.load(Ordering::SeqCst)
    }
}

fn types(published: &[saga_core::testing::Published]) -> Vec<&str> {
    published.iter().map(|p| p.event_type.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_runs_its_effect_and_its_step_once_and_publishes_the_success() {
    let bench = Bench::new();
    let published = bench.scenario().when(&reserved(bench.id, "visa")).await;
    assert_eq!(types(&published), ["pay.charged"]);
    assert_eq!(bench.charges(), 1);
    assert_eq!(bench.store.get::<u32>("charged").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_committed_and_never_retried() {
    let bench = Bench::new();
    let published = bench.scenario().when(&reserved(bench.id, "declined")).await;
    assert_eq!(types(&published), ["pay.declined"]);
    assert_eq!(bench.charges(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_until_it_passes() {
    let bench = Bench::new();
    let published = bench.scenario().when(&reserved(bench.id, "flaky")).await;
    assert_eq!(types(&published), ["pay.charged"]);
    assert_eq!(bench.charges(), 3);
}

#[tokio::test(start_paused = true)]
async fn used_up_retries_end_in_the_declared_refusal() {
    let bench = Bench::new();
    let published = bench.scenario().when(&reserved(bench.id, "timeout")).await;
    assert_eq!(types(&published), ["pay.declined"]);
    assert_eq!(published[0].read::<Declined>().unwrap().reason, "unavailable");
    assert_eq!(bench.charges(), 4);
    assert_eq!(bench.gateway.voids.load(Ordering::SeqCst), 1, "an attempt without an answer may have taken effect");
}

#[tokio::test(start_paused = true)]
async fn no_saga_is_refused_while_an_unanswered_attempt_may_have_taken_effect() {
    let bench = Bench::new();
    bench.gateway.deaf.store(2, Ordering::SeqCst);
    let published = bench.scenario().when(&reserved(bench.id, "timeout")).await;
    assert_eq!(types(&published), ["pay.declined"]);
    assert_eq!(bench.gateway.voids.load(Ordering::SeqCst), 1);
    assert_eq!(bench.charges(), 4, "an effect that is being voided is not called again");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_dead_lettered_and_blocks_the_saga_until_it_is_compensated() {
    let bench = Bench::new();
    let published = bench.scenario().when(&reserved(bench.id, "broken")).await;
    assert_eq!(published.len(), 1);
    assert_eq!(&*published[0].record.topic, "pay.dlq");
    let later = bench.scenario().when(&cancelled(bench.id)).await;
    assert_eq!(types(&later), ["pay.refunded"], "the compensation does not wait for an operator");
    assert!(!later[0].null_compensation, "the call may have taken effect");
    assert_eq!(bench.refunds(), 1);
    let summary = bench.store.summary().await.unwrap();
    assert_eq!((summary.blocked_sagas, summary.parked_sagas), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn another_event_with_the_same_meaning_has_no_second_effect() {
    let bench = Bench::new();
    let published = bench.scenario().given(&reserved(bench.id, "visa")).when(&reserved(bench.id, "visa")).await;
    assert_eq!(types(&published), Vec::<&str>::new());
    assert_eq!(bench.charges(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_compensation_reverses_its_action() {
    let bench = Bench::new();
    let published = bench.scenario().given(&reserved(bench.id, "visa")).when(&cancelled(bench.id)).await;
    assert_eq!(types(&published), ["pay.refunded"]);
    assert!(!published[0].null_compensation);
    assert_eq!((bench.refunds(), bench.store.get::<u32>("refunded").await), (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_compensation_before_its_action_calls_nothing_publishes_its_event_and_rejects_the_late_action() {
    let bench = Bench::new();
    let published = bench.scenario().when(&cancelled(bench.id)).await;
    assert_eq!(types(&published), ["pay.refunded"]);
    assert!(published[0].null_compensation);
    let late = bench.scenario().when(&reserved(bench.id, "visa")).await;
    assert_eq!(types(&late), Vec::<&str>::new());
    assert_eq!((bench.charges(), bench.refunds()), (0, 0));
}
