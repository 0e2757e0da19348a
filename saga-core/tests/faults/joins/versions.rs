//! A new version of a step that waits for more, for less, or no longer for several events.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_version_with_one_more_part_waits_for_it_too() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let member = world.start(payment());
        world.one_by_one([world.record(&flight(id))]).await;
        member.stop().await;
        let pay = async |_: &mut Cx<'_, MemoryStore>,
                         (car, flight, bed): (CarReserved, FlightReserved, Bed)|
               -> StepResult<Charged, Declined> {
            Ok(Outcome::Success(Charged { id: flight.id, cents: car.cents + flight.cents + bed.cents() }))
        };
        let _member = world.start(Participant::named("payment").step(Step::new("pay", pay)));
        world.one_by_one([world.record(&hotel(id))]).await;
        assert_eq!(world.types("payment.events"), [""; 0]);
        world.one_by_one([world.record(&CarReserved { id, cents: 3 })]).await;
        let charged = &world.broker.records("payment.events")[0];
        assert!(String::from_utf8(charged.value.clone().unwrap()).unwrap().contains("123"));
    })
    .await;
}

/// The bank takes the money and its answer is lost: the call counts as failed and is tried again much later.
#[tokio::test(start_paused = true)]
async fn a_step_that_was_a_join_records_the_start_of_its_effect() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let member = world.start(payment());
        world.one_by_one([world.record(&flight(id))]).await;
        member.stop().await;
        let (charges, refunds) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let (charged, refunded) = (charges.clone(), refunds.clone());
        let call = async move |_: &Call, _: &HotelReserved| -> Result<i64, StepError> {
            *charged.lock().unwrap() += 1;
            Err(StepError::transient("the answer was lost"))
        };
        let record =
            async |_: &mut Cx<'_, MemoryStore>, hotel: HotelReserved, cents: i64| -> StepResult<Charged, Declined> {
                Ok(Outcome::Success(Charged { id: hotel.id, cents }))
            };
        let back = async move |_: &Call, _: &Refunded| -> Result<(), StepError> {
            *refunded.lock().unwrap() += 1;
            Ok(())
        };
        let pay = Step::with_effect("pay", call, record)
            .retry(saga_core::RetryPolicy::exponential(Duration::from_secs(600), Duration::from_secs(600), 9))
            .undone_with_effect(back, refund)
            .on::<(TripCancelled, HotelRejected)>();
        let _member = world.start(Participant::named("payment").step(pay));
        world.publish(&hotel(id));
        world.eventually("the bank was called", async || *charges.lock().unwrap() > 0).await;
        let parked = async || world.store.summary().await.unwrap().parked_sagas == 1;
        world.eventually("it is parked", parked).await;
        world.one_by_one([world.record(&TripCancelled { id })]).await;
        assert_eq!(world.types("payment.events"), ["payment.refunded"]);
        assert_eq!(*refunds.lock().unwrap(), 1, "the bank has the money, and the saga says that it is refunded");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_that_was_a_join_is_done_once() {
    on_one_thread(async {
        let both = async |_: &mut Cx<'_, MemoryStore>,
                          (trip, _): (TripCancelled, HotelRejected)|
               -> Result<Refunded, StepError> { Ok(Refunded { id: trip.id }) };
        let (world, id) = (World::new(3), Uuid::now_v7());
        let member = world.start(Participant::named("payment").step(Step::new("pay", pay).undone_by(both)));
        world.one_by_one([world.record(&HotelRejected { id })]).await;
        member.stop().await;
        let _member = world.start(payment());
        let cancelled = world.record(&TripCancelled { id });
        world.one_by_one([cancelled.clone(), cancelled, world.record(&TripCancelled { id })]).await;
        assert_eq!(world.types("payment.events"), ["payment.refunded"]);
    })
    .await;
}
