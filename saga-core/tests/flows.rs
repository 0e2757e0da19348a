//! The test kit for whole flows, on a trip that reserves, pays, waits and compensates.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::time::Duration;

use common::events::events;
use saga_core::{
    Never, Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult,
    handler::{Call, Cx},
    runtime::CallLabel,
    testing::{Flow, MemoryBroker, MemoryStore},
};
use uuid::Uuid;

events! {
    Requested = "trip.requested" on "trip.events" { card: String }
    Reserved = "flight.reserved" on "flight.events" { card: String }
    Released = "flight.released" on "flight.events" {}
    Charged = "payment.charged" on "payment.events" {}
    Declined = "payment.declined" on "payment.events" {}
    Completed = "trip.completed" on "trip.events" {}
    Expired = "trip.expired" on "trip.events" {}
}

impl From<Declined> for Released {
    fn from(why: Declined) -> Self {
        Self { id: why.id }
    }
}

fn trip() -> Participant<MemoryStore> {
    async fn register(_: &mut Cx<'_, MemoryStore>, _: Requested) -> StepResult<Never> {
        Ok(Outcome::Quiet)
    }
    async fn complete(_: &mut Cx<'_, MemoryStore>, paid: Charged) -> StepResult<Completed> {
        Ok(Outcome::Success(Completed { id: paid.id }))
    }
    async fn expire(_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
        Ok(sagas.into_iter().map(|saga| Outcome::Success(Expired { id: saga.as_uuid() })).collect())
    }
    Participant::named("trip")
        .step(Step::new("register", register).deadline(Duration::from_secs(300), expire))
        .step(Step::new("complete", complete))
        .completes_with::<Completed>()
}

fn flight() -> Participant<MemoryStore> {
    async fn reserve(cx: &mut Cx<'_, MemoryStore>, trip: Requested) -> StepResult<Reserved, Never> {
        cx.tx().put(&format!("seat/{}", trip.id), &1);
        Ok(Outcome::Success(Reserved { id: trip.id, card: trip.card }))
    }
    async fn release(cx: &mut Cx<'_, MemoryStore>, why: Declined) -> Result<Released, StepError> {
        cx.tx().put(&format!("seat/{}", why.id), &0);
        Ok(why.into())
    }
    Participant::named("flight").step(Step::new("reserve", reserve).undone_by(release))
}

fn payment() -> Participant<MemoryStore> {
    let ask = async |call: &Call, trip: &Reserved| match trip.card.as_str() {
        "flaky" if call.attempt < 3 => Err(StepError::transient("the bank hung up")),
        "broken" => Err(StepError::permanent("no such card")),
        "lost" => std::future::pending().await,
        card => Ok(card != "bad"),
    };
    async fn charge(_: &mut Cx<'_, MemoryStore>, trip: Reserved, paid: bool) -> StepResult<Charged, Declined> {
        let id = trip.id;
        Ok(if paid { Outcome::Success(Charged { id }) } else { Outcome::Refused(Declined { id }) })
    }
    let retry = RetryPolicy::fixed(Duration::from_secs(20), 5);
    Participant::named("payment").step(Step::with_effect("charge", ask, charge).retry(retry))
}

fn requested(card: &str) -> Requested {
    Requested { id: Uuid::new_v4(), card: card.to_owned() }
}

async fn seat(store: &MemoryStore, trip: Uuid) -> Option<i32> {
    store.get(&format!("seat/{trip}")).await
}

#[tokio::test(start_paused = true)]
async fn events_rows_calls_and_dead_letters_are_distinguished() {
    Flow::of([trip(), flight(), payment()])
        .run(async |flow| {
            let good = requested("flaky");
            let published = flow.when(&good).await;
            let sources: Vec<&str> = published.iter().map(|event| event.source.as_str()).collect();
            assert_eq!(sources, ["flight", "payment", "trip"]);
            assert_eq!(flow.types(), ["trip.requested", "flight.reserved", "payment.charged", "trip.completed"]);
            assert_eq!(seat(flow.store("flight"), good.id).await, Some(1));
            let calls = |result| {
                let label = CallLabel { step: "charge", result };
                flow.metrics("payment").effect_calls.get_or_create(&label).get()
            };
            assert_eq!((calls("failed"), calls("ok")), (2, 1));

            let bad = requested("bad");
            let published = flow.when(&bad).await;
            let types: Vec<&str> = published.iter().map(|event| event.event_type.as_str()).collect();
            assert_eq!(types, ["flight.reserved", "payment.declined", "flight.released"]);
            assert_eq!(seat(flow.store("flight"), bad.id).await, Some(0));
            assert!(flow.dead_letters().is_empty());

            flow.when(&requested("broken")).await;
            let letters = flow.dead_letters();
            assert_eq!((letters.len(), letters[0].event_type.as_str()), (1, "flight.reserved"));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fires_when_its_time_has_passed_and_not_before() {
    Flow::of([trip(), flight(), payment()])
        .run(async |flow| {
            flow.when(&requested("good")).await;
            let broken = requested("broken");
            flow.when(&broken).await;
            assert!(flow.after(Duration::from_secs(200)).await.is_empty());
            let published = flow.after(Duration::from_secs(200)).await;
            assert_eq!(published.len(), 1, "{published:?}");
            assert_eq!(
                (published[0].event_type.as_str(), published[0].saga_id.as_str()),
                ("trip.expired", broken.id.to_string().as_str())
            );
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn declarations_that_do_not_fit_are_found_in_the_same_test() {
    Flow::of([trip(), payment()])
        .run(async |flow| {
            let findings = flow.choreography().check();
            assert!(findings.iter().any(|finding| finding.message.contains("flight.reserved")), "{findings:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_was_dropped_goes_on_where_it_was() {
    let (broker, stores) =
        (MemoryBroker::new(3), [MemoryStore::default(), MemoryStore::default(), MemoryStore::default()]);
    let flow = || Flow::on([trip(), flight(), payment()].into_iter().zip(stores.clone())).on_broker(&broker);
    let (first, second) = (requested("good"), requested("good"));
    flow()
        .run(async |flow| {
            flow.when(&first).await;
            // Nobody handles it before all participants die.
            flow.publish(&second);
        })
        .await;
    assert_eq!(seat(&stores[1], second.id).await, None);
    flow()
        .run(async |flow| {
            flow.settle().await;
            let saga = second.id.to_string();
            let types: Vec<_> = flow.events().into_iter().filter(|e| e.saga_id == saga).map(|e| e.event_type).collect();
            assert_eq!(types, ["trip.requested", "flight.reserved", "payment.charged", "trip.completed"]);
            assert_eq!(flow.events().len(), 8, "the first saga's events are not published again");
        })
        .await;
}
