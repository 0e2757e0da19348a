//! Steps that run in rounds: what is committed between them, what goes on meanwhile, and what a crash leaves; in memory and
//! virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "../common/mod.rs"]
mod common;
mod crashes;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use saga_core::{
    Event, Never, Outcome, Participant, RetryPolicy, Rounds, SagaId, Step, StepError, StepResult,
    barrier::{Mark, Op},
    clock::Clock,
    handler::{Call, Cx},
    runtime::{Handle, Options, Runtime},
    store::Store,
    testing::{Fault, MemoryBroker, MemoryStore, VirtualClock},
};
use uuid::Uuid;

use self::common::{World, eventually, record};
use common::events::events;

events! {
    Made = "offer.made" on "offer.events" {}
    Sent = "offer.sent" on "offer.events" {}
    Answered = "offer.answered" on "offer.events" {}
    Withdrawn = "offer.withdrawn" on "offer.events" {}
    Accepted = "sale.accepted" on "sale.events" {}
    Lapsed = "sale.lapsed" on "sale.events" {}
    Noted = "sale.noted" on "sale.events" {}
    Forgotten = "sale.forgotten" on "sale.events" {}
    Expired = "sale.expired" on "sale.events" {}
}

impl From<Withdrawn> for Forgotten {
    fn from(why: Withdrawn) -> Self {
        Self { id: why.id }
    }
}

#[derive(Clone, Debug, saga_core::Trigger)]
enum Offer {
    Made(Made),
    Sent(Sent),
}

impl Offer {
    fn id(&self) -> Uuid {
        match self {
            Self::Made(offer) => offer.id,
            Self::Sent(offer) => offer.id,
        }
    }
}

type Context<'a> = Cx<'a, MemoryStore>;

const MINUTE: Duration = Duration::from_secs(60);

fn answer(id: Uuid) -> String {
    format!("answer/{id}")
}

/// The rounds that have run, as the database has it.
async fn rounds(store: &MemoryStore, id: Uuid) -> Vec<u32> {
    store.get(&format!("rounds/{id}")).await.unwrap_or_default()
}

fn note_round(cx: &mut Context<'_>, id: Uuid) {
    let (key, round) = (format!("rounds/{id}"), cx.round());
    let mut rounds: Vec<u32> = cx.tx().get(&key).unwrap_or_default();
    rounds.push(round);
    cx.tx().put(&key, &rounds);
}

/// Asks every minute whether there is an answer.
async fn remind(cx: &mut Context<'_>, offer: Offer) -> StepResult<Accepted> {
    note_round(cx, offer.id());
    match cx.tx().get::<bool>(&answer(offer.id())) {
        Some(true) => Ok(Outcome::Success(Accepted { id: offer.id() })),
        _ => Ok(Outcome::Again { after: MINUTE }),
    }
}

async fn lapse(_: &mut Context<'_>, offer: Offer, _: &StepError) -> Result<Lapsed, StepError> {
    Ok(Lapsed { id: offer.id() })
}

async fn note(cx: &mut Context<'_>, offer: Answered) -> StepResult<Noted> {
    cx.tx().put(&answer(offer.id), &true);
    Ok(Outcome::Success(Noted { id: offer.id }))
}

async fn forget(cx: &mut Context<'_>, why: Withdrawn) -> Result<Forgotten, StepError> {
    cx.tx().put(&format!("forgotten/{}", why.id), &true);
    Ok(why.into())
}

fn sales() -> Participant<MemoryStore> {
    Participant::named("sale")
        .step(Step::new("remind", remind).again(Rounds::at_most(4)).undone_by(forget))
        .step(Step::new("note", note))
}

async fn offered(world: &World) -> Uuid {
    let offer = Made { id: Uuid::now_v7() };
    world.publish(&offer);
    world.eventually("the first round", async || rounds(&world.store, offer.id).await == [0]).await;
    offer.id
}

async fn mark(store: &MemoryStore, id: Uuid) -> Option<Mark> {
    store.mark(SagaId::from(id), "remind", Op::Action).await
}

#[tokio::test(start_paused = true)]
async fn a_reply_between_two_rounds_is_handled_at_once_and_the_next_round_sees_it() {
    World::with(sales(), async |world| {
        let id = offered(world).await;
        assert_eq!(mark(&world.store, id).await, Some(Mark::Again));
        world.clock.sleep(MINUTE + MINUTE / 2).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1]);
        world.publish(&Answered { id });
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.types("sale.events"), ["sale.noted"], "the reply does not wait for the next round");
        world.clock.sleep(MINUTE).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2]);
        assert_eq!(world.types("sale.events"), ["sale.noted", "sale.accepted"]);
        assert_eq!(mark(&world.store, id).await, Some(Mark::Done));
        world.clock.sleep(5 * MINUTE).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2], "it is over");
        let summary = world.store.summary().await.unwrap();
        assert_eq!((summary.parked_sagas, summary.blocked_sagas), (0, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_and_another_trigger_start_no_round() {
    World::with(sales(), async |world| {
        let offer = Made { id: Uuid::now_v7() };
        let first = world.record(&offer);
        world.broker.append(first.clone());
        world.eventually("the first round", async || rounds(&world.store, offer.id).await == [0]).await;
        world.broker.append(first);
        world.publish(&Sent { id: offer.id });
        world.clock.sleep(MINUTE / 2).await;
        assert_eq!(rounds(&world.store, offer.id).await, [0]);
        world.clock.sleep(MINUTE).await;
        assert_eq!(rounds(&world.store, offer.id).await, [0, 1], "and take none from it");
        assert_eq!(world.store.summary().await.unwrap().parked_sagas, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_of_a_step_that_waits_calls_its_handler_and_ends_the_rounds() {
    World::with(sales(), async |world| {
        let id = offered(world).await;
        world.publish(&Withdrawn { id });
        world.clock.sleep(5 * MINUTE).await;
        assert_eq!(world.types("sale.events"), ["sale.forgotten"]);
        assert_eq!(world.store.get::<bool>(&format!("forgotten/{id}")).await, Some(true), "no null compensation");
        assert_eq!(rounds(&world.store, id).await, [0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_rounds_are_used_up_refuses_as_it_declares() {
    let refusing = Step::new("remind", remind_or_lapse).again(Rounds::at_most(3)).when_exhausted(lapse);
    World::with(Participant::named("sale").step(refusing), async |world| {
        let id = offered(world).await;
        world.clock.sleep(5 * MINUTE).await;
        assert_eq!(world.types("sale.events"), ["sale.lapsed"]);
        assert_eq!(rounds(&world.store, id).await, [0, 1], "the last one asked for more and is rolled back");
        assert_eq!(mark(&world.store, id).await, Some(Mark::Refused));
        assert!(world.types("sale.dlq").is_empty());
    })
    .await;
}

async fn remind_or_lapse(cx: &mut Context<'_>, offer: Offer) -> StepResult<Accepted, Lapsed> {
    note_round(cx, offer.id());
    Ok(Outcome::Again { after: MINUTE })
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_rounds_are_used_up_is_dead_lettered_and_a_replay_resumes_its_last_round() {
    World::with(sales(), async |world| {
        let id = offered(world).await;
        world.clock.sleep(5 * MINUTE).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2]);
        assert_eq!(world.headers("sale.dlq", "__dlq.error.type").len(), 1);
        let why = &world.headers("sale.dlq", "__dlq.errors.message")[0];
        assert!(why.contains("remind is not done after 4 rounds"), "{why}");
        assert_eq!(world.store.summary().await.unwrap().blocked_sagas, 1);
        // Later events of the saga wait, as for any dead letter.
        world.publish(&Answered { id });
        world.clock.sleep(Duration::from_secs(1)).await;
        assert!(world.types("sale.events").is_empty());
        // An operator answers for the customer and publishes the dead letter once more.
        world.store.put(&answer(id), &true).await;
        let dead = world.broker.records("sale.dlq").remove(0);
        let again = saga_core::record::OutRecord {
            topic: "offer.events".into(),
            key: dead.key.clone(),
            value: dead.value.clone(),
            headers: dead.headers.clone(),
        };
        world.broker.append(again);
        world.eventually("it goes on", async || world.types("sale.events") == ["sale.accepted", "sale.noted"]).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2, 3]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_declares_no_rounds_may_not_ask_for_one() {
    World::with(Participant::named("sale").step(Step::new("remind", remind)), async |world| {
        world.publish(&Made { id: Uuid::now_v7() });
        world.eventually("it is dead-lettered", async || !world.types("sale.dlq").is_empty()).await;
        let why = &world.headers("sale.dlq", "__dlq.errors.message")[0];
        assert!(why.contains("add .again(Rounds::at_most(..)) to the step"), "{why}");
    })
    .await;
}

/// A set of offers, of which those with an even number are done at once.
async fn remind_all(cx: &mut Context<'_>, offers: Vec<Made>) -> Result<Vec<Outcome<Accepted>>, StepError> {
    let outcome = |offer: &Made| match cx.round_of(Event::saga_id(offer)) {
        0 if offer.id.as_u128() % 2 == 1 => Outcome::Again { after: MINUTE },
        _ => Outcome::Success(Accepted { id: offer.id }),
    };
    Ok(offers.iter().map(outcome).collect())
}

#[tokio::test(start_paused = true)]
async fn some_events_of_a_set_may_ask_for_another_round() {
    let participant = Participant::named("sale").step(Step::new("remind", remind_all).again(Rounds::at_most(2)));
    World::with(participant, async |world| {
        (0..10).for_each(|n| world.publish(&Made { id: Uuid::from_u128(Uuid::now_v7().as_u128() & !15 | n) }));
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.types("sale.events").len(), 5);
        world.clock.sleep(MINUTE).await;
        assert_eq!(world.types("sale.events").len(), 10);
    })
    .await;
}

/// A join that looks again until there is an answer.
async fn remind_both(cx: &mut Context<'_>, (made, sent): (Made, Sent)) -> StepResult<Accepted> {
    assert_eq!(made.id, sent.id);
    remind(cx, Offer::Made(made)).await
}

#[tokio::test(start_paused = true)]
async fn a_join_runs_its_rounds_with_all_its_parts() {
    let join = Step::new("remind", remind_both).again(Rounds::at_most(9)).undone_by(forget);
    let participant = || Participant::named("sale").step(join).step(Step::new("note", note));
    World::with(participant(), async |world| {
        let id = Uuid::now_v7();
        let last = world.record(&Made { id });
        world.publish(&Sent { id });
        world.clock.sleep(MINUTE).await;
        world.broker.append(last.clone());
        world.eventually("the first round", async || rounds(&world.store, id).await == [0]).await;
        world.broker.append(last);
        world.publish(&Sent { id });
        world.clock.sleep(MINUTE + MINUTE / 2).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1], "what arrives again starts no round");
        world.publish(&Answered { id });
        world.clock.sleep(MINUTE).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2]);
        assert_eq!(world.types("sale.events"), ["sale.noted", "sale.accepted"]);
        assert!(world.types("sale.dlq").is_empty());
    })
    .await;
}

async fn expire(_: &mut Context<'_>, sagas: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
    Ok(sagas.into_iter().map(|saga| Outcome::Success(Expired { id: saga.as_uuid() })).collect())
}

async fn begin(_: &mut Context<'_>, _: Sent) -> StepResult<Never> {
    Ok(Outcome::Quiet)
}

async fn remind_made(cx: &mut Context<'_>, offer: Made) -> StepResult<Accepted> {
    remind(cx, Offer::Made(offer)).await
}

#[tokio::test(start_paused = true)]
async fn deadlines_begin_and_end_with_the_last_round() {
    let limited = |step: Step<MemoryStore, _, _, _>| step.deadline(3 * MINUTE / 2, expire);
    let participant = || {
        Participant::named("sale")
            .step(limited(Step::new("begin", begin)))
            .step(Step::new("remind", remind_made).again(Rounds::at_most(4)).deadline(MINUTE, expire))
    };
    World::with(participant(), async |world| {
        let id = Uuid::now_v7();
        world.publish(&Sent { id });
        world.clock.sleep(Duration::from_secs(1)).await;
        world.publish(&Made { id });
        world.clock.sleep(3 * MINUTE / 2).await;
        assert_eq!(world.types("sale.events"), ["sale.expired"], "the earlier deadline limits the rounds");
        world.store.put(&answer(id), &true).await;
        world.clock.sleep(MINUTE).await;
        assert_eq!(world.types("sale.events"), ["sale.expired", "sale.accepted"]);
        world.clock.sleep(MINUTE).await;
        assert_eq!(world.types("sale.events").len(), 3, "its own begins after the last round");
    })
    .await;
}
