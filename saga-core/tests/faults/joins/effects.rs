//! The effect of a join: its key, its resumption after a crash, and its compensation.

use super::*;

/// The keys under which a bank was called, and whether it answers.
#[derive(Clone, Default)]
struct Bank {
    calls: Arc<Mutex<Vec<(Uuid, i64)>>>,
    is_silent: Arc<AtomicBool>,
}

fn payment_by(bank: &Bank) -> Participant<MemoryStore> {
    let bank = bank.clone();
    let call = async move |call: &Call, (flight, bed): &(FlightReserved, Bed)| -> Result<i64, StepError> {
        let cents = flight.cents + bed.cents();
        bank.calls.lock().unwrap().push((call.idempotency_key, cents));
        if bank.is_silent.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(cents)
    };
    let record = async |_: &mut Cx<'_, MemoryStore>,
                        (flight, _): (FlightReserved, Bed),
                        cents: i64|
           -> StepResult<Charged, Declined> { Ok(Outcome::Success(Charged { id: flight.id, cents })) };
    let pay = Step::with_effect("pay", call, record).undone_by(refund).on::<(TripCancelled, HotelRejected)>();
    Participant::named("payment").step(pay)
}

#[tokio::test(start_paused = true)]
async fn the_redelivery_of_the_last_part_resumes_an_effect_that_was_started() {
    on_one_thread(async {
        let id = Uuid::now_v7();
        let mut keys = Vec::new();
        for flight_first in [true, false] {
            let (world, bank) = (World::new(3), Bank::default());
            bank.is_silent.store(true, SeqCst);
            let member = world.start(payment_by(&bank));
            let mut parts = vec![world.record(&flight(id)), world.record(&hotel(id))];
            if !flight_first {
                parts.reverse();
            }
            let last = parts.pop().unwrap();
            world.one_by_one(parts).await;
            world.broker.append(last);
            world.eventually("the bank is called", async || !bank.calls.lock().unwrap().is_empty()).await;
            assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Started));
            member.die().await;
            bank.is_silent.store(false, SeqCst);
            let _member = world.start(payment_by(&bank));
            world.settled().await;
            assert_eq!(world.types("payment.events"), ["payment.charged"]);
            assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Done));
            let calls = bank.calls.lock().unwrap().clone();
            assert_eq!(calls, [(calls[0].0, 120), (calls[0].0, 120)]);
            keys.push(calls[0].0);
        }
        assert_eq!(keys[0], keys[1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_effect_of_a_join_is_compensated_after_a_crash_between_call_and_record() {
    on_one_thread(async {
        let (world, bank, id) = (World::new(3), Bank::default(), Uuid::now_v7());
        bank.is_silent.store(true, SeqCst);
        let member = world.start(payment_by(&bank));
        world.one_by_one([world.record(&flight(id))]).await;
        world.publish(&hotel(id));
        world.eventually("the bank is called", async || !bank.calls.lock().unwrap().is_empty()).await;
        world.publish(&TripCancelled { id });
        member.die().await;
        bank.is_silent.store(false, SeqCst);
        let _member = world.start(payment_by(&bank));
        world.settled().await;
        let types = world.types("payment.events");
        assert_eq!(types.last().map(String::as_str), Some("payment.refunded"), "{types:?}");
        let null = |h: &Header| h.is(header::NULL_COMPENSATION);
        assert!(!world.broker.records("payment.events").iter().any(|record| record.headers.iter().any(null)));
    })
    .await;
}

/// The bank takes the money and its answer is lost; then one of the two parts of the compensation arrives, and the other never does.
#[tokio::test(start_paused = true)]
async fn an_effect_in_flight_is_not_forgotten_when_half_of_its_compensation_has_arrived() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let (calls, is_down) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(true)));
        let (called, down) = (calls.clone(), is_down.clone());
        let call = async move |_: &Call, _: &(FlightReserved, Bed)| -> Result<i64, StepError> {
            *called.lock().unwrap() += 1;
            if down.load(SeqCst) { Err(StepError::transient("the answer was lost")) } else { Ok(120) }
        };
        let record = async |_: &mut Cx<'_, MemoryStore>,
                            (flight, _): (FlightReserved, Bed),
                            cents: i64|
               -> StepResult<Charged, Declined> {
            Ok(Outcome::Success(Charged { id: flight.id, cents }))
        };
        let both = async |_: &mut Cx<'_, MemoryStore>,
                          (trip, _): (TripCancelled, HotelRejected)|
               -> Result<Refunded, StepError> { Ok(Refunded { id: trip.id }) };
        let pay = Step::with_effect("pay", call, record).undone_by(both);
        let _member = world.start(Participant::named("payment").step(pay));
        world.one_by_one([world.record(&flight(id))]).await;
        world.publish(&hotel(id));
        let parked = async || world.store.summary().await.unwrap().parked_sagas == 1;
        world.eventually("it is parked", parked).await;
        is_down.store(false, SeqCst);
        world.one_by_one([world.record(&HotelRejected { id })]).await;
        world.after(60 * MINUTE).await;
        let dead = world.broker.records("payment.dead-letters").len();
        assert!(
            !world.types("payment.events").is_empty() || dead > 0,
            "the bank was called {} times, and nothing says so",
            calls.lock().unwrap()
        );
    })
    .await;
}
