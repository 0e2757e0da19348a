//! Sagas without a coordinator: everything that a participant needs, under one name.
//!
//! ```toml
//! [dependencies]
//! saga = { git = "https://github.com/saga-choreography/saga", features = ["service"] }
//! ```
//!
//! A whole participant: what it consumes and publishes, what it does and undoes, and the `main` of its service. Nothing is left
//! out.
//!
//! ```no_run
//! use saga::prelude::*;
//!
//! #[saga_event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
//! struct TripRequested { trip_id: Uuid, seats: i64 }
//!
//! #[saga_event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
//! struct HotelRejected { trip_id: Uuid }
//!
//! #[saga_event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
//! struct FlightReserved { trip_id: Uuid }
//!
//! #[saga_event(name = "flight.rejected", topic = "flight.events", saga = "trip_id")]
//! struct FlightRejected { trip_id: Uuid, reason: String }
//!
//! #[saga_event(name = "flight.released", topic = "flight.events", saga = "trip_id")]
//! struct FlightReleased { trip_id: Uuid }
//!
//! const RESERVE: &str = "INSERT INTO seats (trip_id, seats) VALUES ($1, $2)";
//! const RELEASE: &str = "DELETE FROM seats WHERE trip_id = $1";
//! const MIGRATIONS: &[Migration] =
//!     &[Migration { name: "seats", sql: "CREATE TABLE seats (trip_id text PRIMARY KEY, seats bigint NOT NULL)" }];
//!
//! // trip.requested -> flight.reserved | flight.rejected
//! async fn reserve(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<FlightReserved, FlightRejected> {
//!     if trip.seats > 9 {
//!         return Ok(Outcome::Refused(FlightRejected { trip_id: trip.trip_id, reason: "group".to_owned() }));
//!     }
//!     cx.tx().execute(RESERVE, params![trip.trip_id, trip.seats]).await?;
//!     Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
//! }
//!
//! // hotel.rejected -> flight.released
//! async fn release(cx: &mut Cx<'_, Db>, why: HotelRejected) -> Result<FlightReleased, StepError> {
//!     cx.tx().execute(RELEASE, params![why.trip_id]).await?;
//!     Ok(why.into())
//! }
//!
//! impl From<HotelRejected> for FlightReleased {
//!     fn from(why: HotelRejected) -> Self { Self { trip_id: why.trip_id } }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let flight = Participant::named("flight").step(Step::new("reserve", reserve).undone_by(release));
//!     saga::serve(flight).http("127.0.0.1:8091").migrations(MIGRATIONS).run()
//! }
//! ```
//!
//! `saga new flight` writes a project like this, with tests. [`Participant`] says how steps, starts and ends are declared,
//! [`Step`] what a step may have, [`Event`] what an event is; [`testing`] has `Scenario` for one participant and `Flow` for
//! several. What the words mean is in the repository's ARCHITECTURE.md.
//!
//! | Feature | What it adds |
//! |---|---|
//! | `kafka` | `saga::kafka`: the transport, a publisher, an embedded broker |
//! | `postgres`, `sqlite` | `saga::database`: `Db`, `Tx`, `params!`, migrations; a build has both databases |
//! | `service` | `saga::service`: settings, HTTP, signals, metrics, traces; all of the above |
//! | `tools` | `saga::tools`: a `saga` of one's own |
//! | `testing` | the test kit in the prelude |

pub use saga_core::*;
pub use saga_macros::{saga_data, saga_event};

#[cfg(feature = "service")]
pub use axum;
pub use jiff;
pub use schemars;
pub use serde;
pub use uuid;

#[cfg(feature = "kafka")]
pub use saga_kafka as kafka;
#[cfg(feature = "service")]
pub use saga_service as service;
#[cfg(feature = "service")]
pub use saga_service::serve;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use saga_store as database;
#[cfg(feature = "tools")]
pub use saga_tools as tools;

/// What a participant's code says every day.
pub mod prelude {
    pub use saga_core::{
        ErrorClass, Event, Never, Outcome, Participant, RetryPolicy, SagaId, Step, StepError, StepResult, Trigger,
        graph::Rule,
        handler::{Call, Cx},
        step::{BreakerPolicy, EffectLimits},
    };
    pub use saga_macros::{saga_data, saga_event};
    pub use uuid::Uuid;

    #[cfg(feature = "service")]
    pub use axum::{
        Router,
        extract::State,
        routing::{delete, get, post, put},
    };
    #[cfg(feature = "testing")]
    pub use saga_core::testing::{Flow, MemoryBroker, MemoryStore, Scenario, VirtualClock};
    #[cfg(feature = "service")]
    pub use saga_service::{Deps, Json, NoArgs, Parts, Path, Problem, Service, ServiceError, Trace};
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub use saga_store::{Db, Migration, Rows, Tx, params};
}

/// For the code that the attributes write.
#[doc(hidden)]
pub mod __private {
    pub use schemars;
    pub use serde;
}

/// The participant in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
