//! What closes a join: its compensation, a refusal elsewhere, the end of its saga.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_compensation_closes_the_join_and_what_arrives_then_is_late() {
    on_one_thread(async {
        for refused in [false, true] {
            let (world, id) = (World::new(3), Uuid::now_v7());
            let member = world.start(payment());
            let closing =
                if refused { world.record(&HotelRejected { id }) } else { world.record(&TripCancelled { id }) };
            world.one_by_one([world.record(&flight(id)), closing, world.record(&hotel(id))]).await;
            assert_eq!(world.types("payment.events"), ["payment.refunded"]);
            let null = |h: &Header| h.is(header::NULL_COMPENSATION);
            assert!(world.broker.records("payment.events")[0].headers.iter().any(null));
            assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Null));
            assert_eq!(world.charged().await, 0);
            assert_eq!(member.metrics.late.get_or_create(&PAY).get(), 1);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_join_that_has_run_is_compensated() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let _member = world.start(payment());
        let parts = [world.record(&flight(id)), world.record(&hotel(id)), world.record(&TripCancelled { id })];
        world.one_by_one(parts).await;
        assert_eq!(world.types("payment.events"), ["payment.charged", "payment.refunded"]);
        assert_eq!(world.charged().await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_may_wait_for_all_of_several_events_too() {
    on_one_thread(async {
        let both = async |cx: &mut Cx<'_, MemoryStore>,
                          (trip, _): (TripCancelled, HotelRejected)|
               -> Result<Refunded, StepError> {
            cx.tx().put("charged", &0);
            Ok(Refunded { id: trip.id })
        };
        for has_run in [true, false] {
            let (world, id) = (World::new(3), Uuid::now_v7());
            let _member = world.start(Participant::named("payment").step(Step::new("pay", pay).undone_by(both)));
            world.one_by_one([world.record(&flight(id))]).await;
            if has_run {
                world.one_by_one([world.record(&hotel(id))]).await;
                assert_eq!(world.charged().await, 120);
            }
            world.one_by_one([world.record(&HotelRejected { id })]).await;
            assert!(!world.types("payment.events").contains(&"payment.refunded".to_owned()));
            // The compensation has begun: the join is closed.
            world.one_by_one([world.record(&hotel(id)), world.record(&TripCancelled { id })]).await;
            assert_eq!(world.charged().await, 0);
            let refunds = world.types("payment.events").iter().filter(|name| *name == "payment.refunded").count();
            assert_eq!(refunds, 1);
        }
    })
    .await;
}

/// A step of the waiting participant ends the saga.
fn payment_that_ends() -> Participant<MemoryStore> {
    let stop = async |_: &mut Cx<'_, MemoryStore>, trip: TripRequested| -> StepResult<Overdue> {
        Ok(Outcome::Success(Overdue { id: trip.id }))
    };
    let pay = Step::new("pay", pay).arrivals_within(5 * MINUTE, give_up);
    Participant::named("payment").step(pay).step(Step::new("stop", stop)).compensates_with::<Overdue>()
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_saga_closes_its_joins() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let _member = world.start(payment_that_ends());
        let parts = [world.record(&flight(id)), world.record(&TripRequested { id }), world.record(&hotel(id))];
        world.one_by_one(parts).await;
        assert_eq!(world.types("payment.events"), ["payment.overdue"], "the saga has ended as compensated");
        assert_eq!(world.charged().await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_deadline_of_a_join_is_armed_after_the_end() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let _member = world.start(payment_that_ends());
        world.one_by_one([world.record(&TripRequested { id }), world.record(&flight(id))]).await;
        world.after(10 * MINUTE).await;
        assert_eq!(world.types("payment.events"), ["payment.overdue"]);
    })
    .await;
}
