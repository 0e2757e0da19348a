//! Calls to the outside world that hang, or whose process dies.

use super::*;

/// The effect answers only when it is let; a process can die meanwhile.
fn slow_seats(calls: Arc<AtomicUsize>, undone: Arc<AtomicUsize>, answers: bool) -> Participant<MemoryStore> {
    let effect = async move |_: &Call, _: &Booked| {
        calls.fetch_add(1, Ordering::SeqCst);
        if !answers {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    async fn note(cx: &mut Cx<'_, MemoryStore>, trip: Booked, _: ()) -> StepResult<Taken> {
        cx.tx().put("taken", &1);
        Ok(Outcome::Success(Taken { id: trip.id }))
    }
    let undo = async move |_: &Call, _: &Cancelled| {
        undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    Participant::named("seat").step(Step::with_effect("note", effect, note).undone_with_effect(undo, free))
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_after_a_crash_between_effect_and_commit_compensates_the_effect() {
    local(async || {
        let world = World::new(1);
        let (calls, undone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let trip = booked("fine");
        let member = world.start(slow_seats(calls.clone(), undone.clone(), false));
        world.publish(&trip);
        world.eventually("the effect is under way", async || calls.load(Ordering::SeqCst) == 1).await;
        member.die().await;
        assert_eq!(world.store.mark(SagaId::from(trip.id), "note", Op::Action).await, Some(Mark::Started));

        // The cancellation comes first this time: the record of the action was not committed, so the next process reads
        // both; a broker may deliver the other topic's event first.
        let other = World { broker: MemoryBroker::new(1), ..world };
        let next = other.start(slow_seats(calls.clone(), undone.clone(), true));
        other.publish(&Cancelled { id: trip.id });
        other.caught_up().await;
        other.publish(&trip);
        other.caught_up().await;
        assert_eq!(undone.load(Ordering::SeqCst), 1, "what may have happened is undone");
        assert_eq!(other.types("seat.events"), ["seat.freed"]);
        assert_eq!(calls.load(Ordering::SeqCst), 1, "the late action calls nothing");
        assert_eq!(other.store.get::<u32>("taken").await, None);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_resumes_a_started_effect_under_the_same_key() {
    local(async || {
        let world = World::new(1);
        let (calls, undone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let member = world.start(slow_seats(calls.clone(), undone.clone(), false));
        world.publish(&booked("fine"));
        world.eventually("the effect is under way", async || calls.load(Ordering::SeqCst) == 1).await;
        member.die().await;
        let next = world.start(slow_seats(calls.clone(), undone.clone(), true));
        world.caught_up().await;
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert_eq!(world.types("seat.events"), ["seat.taken"]);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sagas_do_not_wait_for_one_whose_effect_hangs() {
    local(async || {
        let world = World::new(1);
        let effect = async |_: &Call, trip: &Booked| {
            if trip.mood == "hang" {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        async fn note(_: &mut Cx<'_, MemoryStore>, trip: Booked, _: ()) -> StepResult<Taken> {
            Ok(Outcome::Success(Taken { id: trip.id }))
        }
        let member = world.start(Participant::named("seat").step(Step::with_effect("note", effect, note)));
        world.publish(&booked("hang"));
        (0..10).for_each(|_| world.publish(&booked("fine")));
        let before = world.clock.now();
        world.eventually("the others are done", async || world.types("seat.events").len() == 10).await;
        assert!(world.clock.now().duration_since(before).as_secs() < 1);
        member.die().await;
    })
    .await;
}
