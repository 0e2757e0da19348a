//! A step that waits for all of several events, in every order and across crashes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use saga_core::{Trigger, runtime::StepLabel};

use super::*;

events! {
    FlightReserved = "flight.reserved" on "flight.events" { cents: i64 }
    HotelReserved = "hotel.reserved" on "hotel.events" { cents: i64 }
    HostelReserved = "hostel.reserved" on "hotel.events" { cents: i64 }
    CarReserved = "car.reserved" on "car.events" { cents: i64 }
    TripCancelled = "trip.cancelled" on "trip.events" {}
    HotelRejected = "hotel.rejected" on "hotel.events" {}
    Charged = "payment.charged" on "payment.events" { cents: i64 }
    Declined = "payment.declined" on "payment.events" { cents: i64 }
    Refunded = "payment.refunded" on "payment.events" {}
}

impl From<TripCancelled> for Refunded {
    fn from(why: TripCancelled) -> Self {
        Self { id: why.id }
    }
}

impl From<HotelRejected> for Refunded {
    fn from(why: HotelRejected) -> Self {
        Self { id: why.id }
    }
}

impl From<(TripCancelled, HotelRejected)> for Refunded {
    fn from((trip, _): (TripCancelled, HotelRejected)) -> Self {
        Self { id: trip.id }
    }
}

/// A place to sleep: any of the two.
#[derive(Clone, Debug, Trigger)]
enum Bed {
    Hotel(HotelReserved),
    Hostel(HostelReserved),
}

impl Bed {
    fn cents(&self) -> i64 {
        match self {
            Self::Hotel(hotel) => hotel.cents,
            Self::Hostel(hostel) => hostel.cents,
        }
    }
}

async fn pay(cx: &mut Cx<'_, MemoryStore>, (flight, bed): (FlightReserved, Bed)) -> StepResult<Charged, Declined> {
    let cents = flight.cents + bed.cents();
    let charged: i64 = cx.tx().get("charged").unwrap_or(0);
    cx.tx().put("charged", &(charged + cents));
    Ok(Outcome::Success(Charged { id: flight.id, cents }))
}

async fn refund(cx: &mut Cx<'_, MemoryStore>, why: Refunded) -> Result<Refunded, StepError> {
    cx.tx().put("charged", &0);
    Ok(why)
}

fn payment() -> Participant<MemoryStore> {
    let pay = Step::new("pay", pay).undone_by(refund).on::<(TripCancelled, HotelRejected)>();
    Participant::named("payment").step(pay)
}

const PAY: StepLabel = StepLabel { step: "pay", op: "action" };

fn flight(id: Uuid) -> FlightReserved {
    FlightReserved { id, cents: 100 }
}

fn hotel(id: Uuid) -> HotelReserved {
    HotelReserved { id, cents: 20 }
}

impl World {
    /// Waits until the participant has handled and published everything.
    async fn settled(&self) {
        self.eventually("everything is handled and published", async || {
            let summary = self.store.summary().await.unwrap();
            self.broker.is_caught_up("payment") && summary.outbox_pending == 0 && summary.parked_sagas == 0
        })
        .await;
    }

    /// Publishes these one after the other.
    async fn one_by_one(&self, records: impl IntoIterator<Item = OutRecord>) {
        for record in records {
            self.broker.append(record);
            self.settled().await;
        }
    }

    fn record<E: Event>(&self, event: &E) -> OutRecord {
        record(event, Uuid::now_v7(), self.clock)
    }

    async fn charged(&self) -> i64 {
        self.store.get("charged").await.unwrap_or(0)
    }

    fn published(&self) -> Vec<(String, Vec<u8>)> {
        let id = |record: &saga_core::record::Record| {
            record.headers.iter().find(|h| h.is(header::ID)).and_then(|h| h.value.clone()).unwrap()
        };
        let ids = self.broker.records("payment.events").iter().map(id).collect::<Vec<_>>();
        self.types("payment.events").into_iter().zip(ids).collect()
    }
}

async fn on_one_thread(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_join_runs_once_with_all_its_parts_and_its_event_has_the_same_id_whichever_came_last() {
    on_one_thread(async {
        let id = Uuid::now_v7();
        let mut ids = Vec::new();
        for flight_first in [true, false] {
            let world = World::new(3);
            let member = world.start(payment());
            let mut parts = [world.record(&flight(id)), world.record(&hotel(id))];
            if !flight_first {
                parts.reverse();
            }
            world.one_by_one([parts[0].clone()]).await;
            assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Waiting));
            assert_eq!(world.charged().await, 0);
            world.one_by_one([parts[1].clone()]).await;
            assert_eq!(world.charged().await, 120);
            world.one_by_one(parts).await;
            assert_eq!(world.types("payment.events"), ["payment.charged"]);
            assert_eq!(member.metrics.duplicates.get_or_create(&PAY).get(), 2);
            ids.push(world.published());
        }
        assert_eq!(ids[0], ids[1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_counts_once_as_a_repetition_and_as_an_alternative_too() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let member = world.start(payment());
        let hostel = HostelReserved { id, cents: 5 };
        world.one_by_one([world.record(&hostel), world.record(&hostel), world.record(&hotel(id))]).await;
        assert_eq!(world.types("payment.events"), [""; 0]);
        world.one_by_one([world.record(&flight(id)), world.record(&hotel(id))]).await;
        assert_eq!(world.charged().await, 105);
        assert_eq!(world.types("payment.events"), ["payment.charged"]);
        assert_eq!(member.metrics.repetitions.get_or_create(&PAY).get(), 1);
        assert_eq!(member.metrics.alternatives.get_or_create(&PAY).get(), 2);
        assert_eq!(member.metrics.duplicates.get_or_create(&PAY).get(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn both_parts_of_many_sagas_that_come_at_once_are_joined() {
    on_one_thread(async {
        let world = World::new(1);
        let sagas: Vec<Uuid> = (0..300).map(|_| Uuid::now_v7()).collect();
        for id in &sagas {
            world.publish(&flight(*id));
            world.publish(&hotel(*id));
        }
        let _member = world.start(payment());
        world.settled().await;
        assert_eq!(world.types("payment.events").len(), 300);
        assert_eq!(world.charged().await, 300 * 120);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_join_survives_a_crash_at_every_line_of_its_transactions() {
    on_one_thread(async {
        let faults = [Fault::Begin, Fault::Deadlock, Fault::Lock, Fault::Commit, Fault::CommitAnswer];
        for (first, second) in faults.into_iter().flat_map(|first| faults.map(|second| (first, second))) {
            let (world, id) = (World::new(3), Uuid::now_v7());
            let member = world.start(payment());
            world.store.inject([first]);
            world.one_by_one([world.record(&flight(id))]).await;
            member.die().await;
            let _member = world.start(payment());
            world.store.inject([second]);
            world.one_by_one([world.record(&hotel(id))]).await;
            assert_eq!(world.charged().await, 120, "{first:?}, {second:?}");
            assert_eq!(world.types("payment.events"), ["payment.charged"], "{first:?}, {second:?}");
        }
    })
    .await;
}

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

#[tokio::test(start_paused = true)]
async fn a_last_part_that_fails_is_tried_again_with_the_stored_ones() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let is_down = Arc::new(AtomicBool::new(true));
        let flaky = || {
            let is_down = is_down.clone();
            let pay = async move |_: &mut Cx<'_, MemoryStore>,
                                  (flight, bed): (FlightReserved, Bed)|
                        -> StepResult<Charged, Declined> {
                if is_down.load(SeqCst) {
                    return Err(StepError::transient("not now"));
                }
                Ok(Outcome::Success(Charged { id: flight.id, cents: flight.cents + bed.cents() }))
            };
            Participant::named("payment").step(Step::new("pay", pay))
        };
        let member = world.start(flaky());
        world.one_by_one([world.record(&flight(id))]).await;
        world.publish(&hotel(id));
        let parked = async || world.store.summary().await.unwrap().parked_sagas == 1;
        world.eventually("it is parked", parked).await;
        assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Waiting));
        member.die().await;
        is_down.store(false, SeqCst);
        let _member = world.start(flaky());
        world.settled().await;
        let charged = &world.broker.records("payment.events")[0];
        assert!(String::from_utf8(charged.value.clone().unwrap()).unwrap().contains("120"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_join_refuses_when_its_retries_are_used_up() {
    on_one_thread(async {
        let (world, id) = (World::new(3), Uuid::now_v7());
        let pay = async |_: &mut Cx<'_, MemoryStore>, _: (FlightReserved, Bed)| -> StepResult<Charged, Declined> {
            Err(StepError::transient("not now"))
        };
        let refuse = async |_: &mut Cx<'_, MemoryStore>,
                            (flight, bed): (FlightReserved, Bed),
                            _: &StepError|
               -> Result<Declined, StepError> {
            Ok(Declined { id: flight.id, cents: flight.cents + bed.cents() })
        };
        let _member = world.start(Participant::named("payment").step(Step::new("pay", pay).when_exhausted(refuse)));
        world.one_by_one([world.record(&flight(id)), world.record(&hotel(id))]).await;
        assert_eq!(world.types("payment.events"), ["payment.declined"]);
        assert_eq!(world.store.mark(id.into(), "pay", Op::Action).await, Some(Mark::Refused));
        world.one_by_one([world.record(&hotel(id)), world.record(&flight(id))]).await;
        assert_eq!(world.types("payment.events"), ["payment.declined"]);
    })
    .await;
}

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

events! {
    TripRequested = "trip.requested" on "trip.events" {}
    GaveUp = "payment.expired" on "payment.events" {}
    Overdue = "payment.overdue" on "payment.events" {}
}

async fn give_up(_: &mut Cx<'_, MemoryStore>, trips: Vec<SagaId>) -> Result<Vec<Outcome<GaveUp>>, StepError> {
    Ok(trips.into_iter().map(|trip| Outcome::Success(GaveUp { id: trip.as_uuid() })).collect())
}

async fn overdue(_: &mut Cx<'_, MemoryStore>, trips: Vec<SagaId>) -> Result<Vec<Outcome<Overdue>>, StepError> {
    Ok(trips.into_iter().map(|trip| Outcome::Success(Overdue { id: trip.as_uuid() })).collect())
}

async fn note(_: &mut Cx<'_, MemoryStore>, _: TripRequested) -> StepResult<Charged, Declined> {
    Ok(Outcome::Quiet)
}

const MINUTE: Duration = Duration::from_secs(60);

fn patient_payment() -> Participant<MemoryStore> {
    let pay = Step::new("pay", pay).undone_by(refund).on::<(TripCancelled, HotelRejected)>();
    let note = Step::new("note", note).deadline(10 * MINUTE, overdue);
    Participant::named("payment").step(pay.arrivals_within(5 * MINUTE, give_up)).step(note)
}

impl World {
    async fn after(&self, time: Duration) {
        self.clock.sleep(time).await;
        self.settled().await;
    }
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
