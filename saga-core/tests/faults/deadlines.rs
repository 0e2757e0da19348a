//! Deadlines of processes that are gone, and that fail.

use super::*;

fn waiting_seats(deadline: Duration) -> Participant<MemoryStore> {
    async fn book(_: &mut Cx<'_, MemoryStore>, _: Booked) -> StepResult<saga_core::Never> {
        Ok(Outcome::Quiet)
    }
    async fn end(_: &mut Cx<'_, MemoryStore>, _: Cancelled) -> StepResult<saga_core::Never> {
        Ok(Outcome::Quiet)
    }
    let expired = async |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
        Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
    };
    Participant::named("seat").step(Step::new("book", book).deadline(deadline, expired)).step(Step::new("end", end))
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fires_once_also_when_the_process_that_armed_it_is_gone() {
    local(async || {
        let world = World::new(1);
        let member = world.start(waiting_seats(Duration::from_secs(60)));
        let ended = booked("fine");
        world.publish(&booked("fine"));
        world.publish(&ended);
        world.publish(&Cancelled { id: ended.id });
        world.caught_up().await;
        member.die().await;
        world.clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(world.types("seat.events"), Vec::<String>::new());
        let next = world.start(waiting_seats(Duration::from_secs(60)));
        world.eventually("it has fired", async || world.types("seat.events") == ["seat.expired"]).await;
        world.clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(world.types("seat.events"), ["seat.expired"], "once, and not for the saga whose wait was over");
        assert_eq!(next.metrics.deadlines_fired.get(), 1);
        next.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_whose_handler_fails_does_not_delay_the_others() {
    local(async || {
        let bad = booked("bad");
        let poisoned = SagaId::from(bad.id);
        async fn book(_: &mut Cx<'_, MemoryStore>, _: Booked) -> StepResult<saga_core::Never> {
            Ok(Outcome::Quiet)
        }
        let expired = async move |_: &mut Cx<'_, MemoryStore>, sagas: Vec<SagaId>| {
            if sagas.contains(&poisoned) {
                return Err(StepError::permanent("a defect"));
            }
            Ok(sagas.into_iter().map(|id| Outcome::Success(Expired { id: id.as_uuid() })).collect())
        };
        let world = World::new(1);
        let step = Step::new("book", book).deadline(Duration::from_secs(10), expired);
        let member = world.start(Participant::named("seat").step(step));
        world.publish(&bad);
        world.caught_up().await;
        (0..10).for_each(|_| world.publish(&booked("fine")));
        world.eventually("the others fire", async || world.types("seat.events").len() == 10).await;
        assert_eq!(world.store.summary().await.unwrap().timers, 1, "the bad one stays armed");
        member.stop().await;
    })
    .await;
}
