//! The deadline of a join, which meets its last arrival.

use super::*;

async fn overdue(_: &mut Cx<'_, MemoryStore>, trips: Vec<SagaId>) -> Result<Vec<Outcome<Overdue>>, StepError> {
    Ok(trips.into_iter().map(|trip| Outcome::Success(Overdue { id: trip.as_uuid() })).collect())
}

async fn note(_: &mut Cx<'_, MemoryStore>, _: TripRequested) -> StepResult<Charged, Declined> {
    Ok(Outcome::Quiet)
}

fn patient_payment() -> Participant<MemoryStore> {
    let pay = Step::new("pay", pay).undone_by(refund).on::<(TripCancelled, HotelRejected)>();
    let note = Step::new("note", note).deadline(10 * MINUTE, overdue);
    Participant::named("payment").step(pay.arrivals_within(5 * MINUTE, give_up)).step(note)
}

#[tokio::test(start_paused = true)]
async fn a_join_whose_parts_do_not_arrive_in_time_is_closed() {
    on_one_thread(async {
        for fault in [None, Some(Fault::Begin), Some(Fault::Commit), Some(Fault::CommitAnswer), Some(Fault::Deadlock)] {
            let (world, id) = (World::new(3), Uuid::now_v7());
            let member = world.start(patient_payment());
            world.one_by_one([world.record(&flight(id))]).await;
            member.die().await;
            let member = world.start(patient_payment());
            world.after(4 * MINUTE).await;
            assert_eq!(world.types("payment.events"), [""; 0], "{fault:?}");
            world.store.inject(fault);
            world.after(2 * MINUTE).await;
            assert_eq!(world.types("payment.events"), ["payment.expired"], "{fault:?}");
            assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Refused));
            world.one_by_one([world.record(&hotel(id))]).await;
            assert_eq!(member.metrics.late.get_or_create(&PAY).get(), 1);
            assert_eq!((world.charged().await, world.types("payment.events").len()), (0, 1));
            world.one_by_one([world.record(&TripCancelled { id })]).await;
            assert_eq!(world.types("payment.events"), ["payment.expired", "payment.refunded"]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_complete_or_closed_has_no_deadline() {
    on_one_thread(async {
        for cancelled in [false, true] {
            let (world, id) = (World::new(3), Uuid::now_v7());
            let _member = world.start(patient_payment());
            let last = if cancelled { world.record(&TripCancelled { id }) } else { world.record(&hotel(id)) };
            world.one_by_one([world.record(&flight(id)), last]).await;
            assert_eq!(world.store.summary().await.unwrap().timers, 0);
            let published = world.types("payment.events");
            world.after(20 * MINUTE).await;
            assert_eq!(world.types("payment.events"), published);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn arrivals_neither_disarm_nor_arm_anew() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let _member = world.start(patient_payment());
        world.one_by_one([world.record(&TripRequested { id }), world.record(&flight(id))]).await;
        world.after(4 * MINUTE).await;
        // Repeated, and as another event of its type: neither moves the deadline.
        world.one_by_one([world.record(&flight(id)), world.record(&flight(id))]).await;
        world.after(2 * MINUTE).await;
        assert_eq!(world.types("payment.events"), ["payment.expired"]);
        world.after(5 * MINUTE).await;
        assert_eq!(world.types("payment.events"), ["payment.expired", "payment.overdue"]);
    })
    .await;
}
