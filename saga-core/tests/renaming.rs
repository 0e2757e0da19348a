//! What a database has seen of a participant: a step that is renamed while sagas have rows of it is found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use saga_core::{
    Outcome, Participant, Step, StepError, StepResult,
    graph::{Finding, Rule},
    handler::Cx,
    store::Store,
    testing::{MemoryStore, Scenario},
};

use self::common::trip::{Booked, Cancelled, Freed, Taken};

async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken> {
    Ok(Outcome::Success(Taken { id: trip.id }))
}

async fn free(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
    Ok(why.into())
}

async fn count(_: &mut Cx<'_, MemoryStore>, taken: Taken) -> StepResult<Freed> {
    Ok(Outcome::Success(Freed { id: taken.id }))
}

/// A participant whose step on `trip.booked` has this name.
fn seats(step: &'static str) -> Participant<MemoryStore> {
    Participant::named("seat").step(Step::new(step, take).undone_by(free))
}

async fn declared(participant: Participant<MemoryStore>, store: &MemoryStore) -> Vec<Finding> {
    participant.declare_to(store).await.unwrap()
}

/// A database whose participant had this step, and has handled so many trips.
async fn database(step: &'static str, trips: usize) -> MemoryStore {
    let store = MemoryStore::default();
    assert_eq!(declared(seats(step), &store).await, []);
    for _ in 0..trips {
        Scenario::new(seats(step), store.clone()).when(&Booked::anew()).await;
    }
    store
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_renamed_is_found_as_long_as_sagas_have_rows_of_it() {
    let store = database("take", 3).await;
    for _ in 0..2 {
        let findings = declared(seats("occupy"), &store).await;
        assert_eq!(findings.len(), 1, "again at each start: {findings:?}");
        assert_eq!((findings[0].rule, findings[0].step), (Rule::StepsKeepTheirNames, Some("occupy")));
        for part in ["step take is gone", "3 sagas have", "trip.booked", "Keep the name", "StepsKeepTheirNames"] {
            assert!(findings[0].message.contains(part), "{part}: {}", findings[0].message);
        }
    }
    assert_eq!(declared(seats("occupy"), &database("take", 0).await).await, [], "nobody knew the old name");
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_is_a_row_of_its_step() {
    async fn fail(_: &mut Cx<'_, MemoryStore>, _: Booked) -> StepResult<Taken> {
        Err(StepError::permanent("no"))
    }
    let failing = || Participant::named("seat").step(Step::new("take", fail));
    let store = MemoryStore::default();
    assert_eq!(declared(failing(), &store).await, []);
    Scenario::new(failing(), store.clone()).when(&Booked::anew()).await;
    assert_eq!(store.summary().await.unwrap().blocked_sagas, 1);
    assert!(declared(seats("occupy"), &store).await[0].message.contains("1 saga has"));
}

#[tokio::test(start_paused = true)]
async fn a_renaming_that_is_accepted_is_none_for_any_instance() {
    let store = database("take", 1).await;
    let accepting = || seats("occupy").accept(Rule::StepsKeepTheirNames, "all trips have ended");
    assert_eq!(declared(accepting(), &store).await, []);
    assert_eq!(declared(accepting(), &store).await, [], "it starts again");
    assert_eq!(accepting().declaration().check(), [], "an acceptance that only a database can judge is never stale");
    Scenario::new(seats("occupy"), store.clone()).when(&Booked::anew()).await;
    assert_eq!(declared(seats("take"), &store).await, [], "an instance of the old version starts beside it");
    assert_eq!(declared(seats("occupy"), &store).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_added_or_removed_is_no_renaming() {
    let store = database("take", 2).await;
    let both = || seats("take").step(Step::new("count", count));
    assert_eq!(declared(both(), &store).await, [], "added");
    assert_eq!(declared(seats("take"), &store).await, [], "removed, or an old instance beside a new one");
    let other = Participant::named("seat").step(Step::new("count", count));
    assert_eq!(declared(other, &store).await, [], "what starts it has nothing to do with it");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_compensates_on_the_events_of_one_that_is_gone_is_it_renamed() {
    let store = database("take", 1).await;
    async fn recount(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Freed, StepError> {
        Ok(why.into())
    }
    let other = Participant::named("seat").step(Step::new("count", count).undone_by(recount));
    let findings = declared(other, &store).await;
    assert!(findings[0].message.contains("trip.cancelled"), "{findings:?}");
}
