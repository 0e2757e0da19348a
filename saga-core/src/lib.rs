//! Choreographed sagas: the model, the checker and the runtime, with no Kafka, SQL or HTTP crate below it.
//!
//! A *saga* is one business transaction that several services carry out together. In a choreography each of them, a
//! *participant*, reacts to events: an event starts a *step*, which is one local transaction and ends in events of its own, mostly
//! one, or in none: a success, or a *refusal*, which is a business "no". A later failure starts the step's *compensation*,
//! which semantically reverses it. There is no coordinator. This crate runs the steps of one participant, and checks
//! and draws all participants together.
//!
//! # A participant
//!
//! A handler's signature is its declaration: what starts the step, what it publishes, what it refuses with. The
//! participant is a value, from which the service is run, the graph is drawn and tests are made.
//!
//! ```
//! use saga_core::{
//!     Event, Outcome, Participant, SagaId, Step, StepError, StepResult,
//!     handler::Cx,
//!     testing::{MemoryStore, Scenario},
//! };
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use uuid::Uuid;
//!
//! // What happened, in the past tense. `saga` names the field with the saga's id, which is the record's key.
//! #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
//! #[event(name = "trip.booked", topic = "trip.events", saga = "trip_id")]
//! struct TripBooked { trip_id: Uuid, flight: String }
//!
//! #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
//! #[event(name = "trip.cancelled", topic = "trip.events", saga = "trip_id")]
//! struct TripCancelled { trip_id: Uuid, flight: String }
//!
//! #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
//! #[event(name = "seat.reserved", topic = "seat.events", saga = "trip_id")]
//! struct SeatReserved { trip_id: Uuid }
//!
//! #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
//! #[event(name = "seat.rejected", topic = "seat.events", saga = "trip_id")]
//! struct SeatRejected { trip_id: Uuid, reason: String }
//!
//! #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
//! #[event(name = "seat.released", topic = "seat.events", saga = "trip_id")]
//! struct SeatReleased { trip_id: Uuid }
//!
//! // A compensation's event can be made from its trigger alone: it is published also when there was nothing to compensate.
//! impl From<TripCancelled> for SeatReleased {
//!     fn from(why: TripCancelled) -> Self { Self { trip_id: why.trip_id } }
//! }
//!
//! // trip.booked -> seat.reserved, or seat.rejected.
//! async fn reserve(cx: &mut Cx<'_, MemoryStore>, trip: TripBooked) -> StepResult<SeatReserved, SeatRejected> {
//!     let seats: u32 = cx.tx().get(&trip.flight).unwrap_or(0);
//!     if seats == 0 {
//!         return Ok(Outcome::Refused(SeatRejected { trip_id: trip.trip_id, reason: "sold_out".into() }));
//!     }
//!     cx.tx().put(&trip.flight, &(seats - 1));
//!     Ok(Outcome::Success(SeatReserved { trip_id: trip.trip_id }))
//! }
//!
//! // trip.cancelled -> seat.released. It runs only when `reserve` has reserved, and once.
//! async fn release(cx: &mut Cx<'_, MemoryStore>, why: TripCancelled) -> Result<SeatReleased, StepError> {
//!     let seats: u32 = cx.tx().get(&why.flight).unwrap_or(0);
//!     cx.tx().put(&why.flight, &(seats + 1));
//!     Ok(why.into())
//! }
//!
//! fn seats() -> Participant<MemoryStore> {
//!     Participant::named("seats").step(Step::new("reserve", reserve).undone_by(release))
//! }
//!
//! // In a test module this is `#[tokio::test(start_paused = true)]`: the real runtime, in virtual time.
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() {
//!     let flight = || "LH-400".to_owned();
//!     let booked = |trip: SagaId| TripBooked { trip_id: trip.as_uuid(), flight: flight() };
//!     let cancelled = |trip: SagaId| TripCancelled { trip_id: trip.as_uuid(), flight: flight() };
//!     let store = MemoryStore::default();
//!     store.put("LH-400", &1).await;
//!
//!     // Given a free seat, when a trip is booked, then the seat is reserved.
//!     let first = SagaId::random();
//!     let published = Scenario::new(seats(), store.clone()).when(&booked(first)).await;
//!     assert_eq!(published[0].event_type, "seat.reserved");
//!
//!     // The same fact again, under another event id: no second seat, no second event.
//!     let published = Scenario::new(seats(), store.clone()).when(&booked(first)).await;
//!     assert!(published.is_empty());
//!
//!     // Given that the last seat is taken, when a second trip is booked, then it is refused, and its compensation is null.
//!     let second = SagaId::random();
//!     let scenario = Scenario::new(seats(), store.clone()).given(&booked(second));
//!     let published = scenario.when(&cancelled(second)).await;
//!     assert_eq!(published[0].event_type, "seat.released");
//!     assert!(published[0].null_compensation);
//!     assert_eq!(store.get::<u32>("LH-400").await, Some(0));
//!
//!     // When the first trip is cancelled, then its seat is free again.
//!     Scenario::new(seats(), store.clone()).when(&cancelled(first)).await;
//!     assert_eq!(store.get::<u32>("LH-400").await, Some(1));
//!
//!     // A cancellation that overtakes its booking closes the saga: the booking comes too late.
//!     let third = SagaId::random();
//!     let scenario = Scenario::new(seats(), store.clone()).given(&cancelled(third));
//!     assert!(scenario.when(&booked(third)).await.is_empty());
//!     assert_eq!(store.get::<u32>("LH-400").await, Some(1));
//! }
//! ```
//!
//! In production, handlers work on the database of `saga-store` instead of a [`testing::MemoryStore`], and `saga-service`
//! runs the participant as a process with Kafka, HTTP, settings and signals.
//!
//! # Guarantees
//!
//! Events are delivered at least once; what a step writes through [`Cx::tx`](handler::Cx::tx) is written once. A call to
//! the outside world is made at least once, always with the same [idempotency key](handler::Call::idempotency_key).
//! Topics have no order among each other: the [`barrier`] makes the result independent of the order in which events arrive.
//!
//! # Modules
//!
//! For the author of a service:
//!
//! - [`event`]: domain events and what starts a step; the derives [`Event`] and [`Trigger`].
//! - [`handler`]: the shapes a handler may have, what it may publish ([`Emit`]), [`Cx`](handler::Cx) and
//!   [`Call`](handler::Call).
//! - [`outcome`]: success, refusal, and errors by class.
//! - [`step`] and [`participant`]: the declaration, with effects, deadlines and the end of used-up retries.
//! - [`retry`]: when a failed attempt is repeated.
//! - [`testing`]: given, when, then; a store and a broker in memory, a clock in virtual time.
//! - [`graph`]: all participants' declarations together, checked and drawn.
//!
//! Inside the runtime:
//!
//! - [`runtime`]: the worker, batches, effects, parking, deadlines, the outbox relay.
//! - [`barrier`]: the rule that decides whether an event is run, skipped or queued.
//! - [`store`] and [`transport`]: the interfaces to a database and to a broker. Implement them for another one.
//! - [`envelope`], [`record`] and [`dead_letter`]: CloudEvents, the records that carry them, and records that cannot be handled.
//! - [`clock`]: the source of time.

// The derives name this crate `saga_core`, also when they are used in here.
extern crate self as saga_core;

pub mod barrier;
pub mod clock;
pub mod dead_letter;
mod declared;
pub mod envelope;
pub mod event;
pub mod graph;
pub mod handler;
pub mod identity;
mod namespace;
pub mod outcome;
mod panics;
pub mod participant;
pub mod record;
pub mod retry;
pub mod runtime;
mod saga_id;
pub mod step;
pub mod store;
pub mod testing;
pub mod trace;
pub mod transport;

pub use event::{Event, SagaId, Trigger};
pub use handler::Emit;
pub use namespace::{Namespace, NamespaceError};
pub use outcome::{ErrorClass, Never, Outcome, StepError, StepResult};
pub use participant::Participant;
pub use retry::RetryPolicy;
pub use step::{Rounds, Step};
