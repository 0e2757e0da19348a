//! A step that waits for all of several events, in every order and across crashes.

mod closing;
mod effects;
mod limits;
mod versions;

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
    TripRequested = "trip.requested" on "trip.events" {}
    GaveUp = "payment.expired" on "payment.events" {}
    Overdue = "payment.overdue" on "payment.events" {}
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

const MINUTE: Duration = Duration::from_secs(60);

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

    async fn after(&self, time: Duration) {
        self.clock.sleep(time).await;
        self.settled().await;
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

async fn give_up(_: &mut Cx<'_, MemoryStore>, trips: Vec<SagaId>) -> Result<Vec<Outcome<GaveUp>>, StepError> {
    Ok(trips.into_iter().map(|trip| Outcome::Success(GaveUp { id: trip.as_uuid() })).collect())
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
