//! Sagas without a coordinator: everything that a participant needs, under one name.
//!
//! ```toml
//! [dependencies]
//! saga = { git = "https://github.com/saga-choreography/saga", features = ["service"] }
//! ```
//!
//! A whole participant: what it consumes and publishes, what it does and compensates, and the `main` of its service. Nothing is
//! left out. The events of a flow are best a module or a crate of their own; the participant itself is what follows them. It is
//! `examples/flight` of this crate.
//!
//! ```no_run
//! use saga::prelude::*;
//!
//! #[saga_event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
//! struct TripRequested { trip_id: Uuid, seats: i64 }
//!
//! #[saga_event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
//! struct HotelRejected { trip_id: Uuid, reason: String }
//!
//! #[saga_event(name = "payment.declined", topic = "payment.events", saga = "trip_id")]
//! struct PaymentDeclined { trip_id: Uuid, reason: String }
//!
//! #[saga_event(name = "payment.refunded", topic = "payment.events", saga = "trip_id")]
//! struct PaymentRefunded { trip_id: Uuid, reason: String }
//!
//! #[saga_event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
//! struct FlightReserved { trip_id: Uuid }
//!
//! #[saga_event(name = "flight.rejected", topic = "flight.events", saga = "trip_id")]
//! struct FlightRejected { trip_id: Uuid, reason: String }
//!
//! // from: whatever the compensation was started by, its fields are taken over by their names.
//! #[saga_event(name = "flight.released", topic = "flight.events", saga = "trip_id",
//!     from(HotelRejected, PaymentDeclined, PaymentRefunded))]
//! struct FlightReleased { trip_id: Uuid, reason: String }
//!
//! const SEATS: &str = "CREATE TABLE seats (trip_id text PRIMARY KEY, seats bigint NOT NULL)";
//! const RESERVE: &str = "INSERT INTO seats (trip_id, seats) VALUES ($1, $2)";
//! const RELEASE: &str = "DELETE FROM seats WHERE trip_id = $1";
//!
//! // trip.requested -> flight.reserved | flight.rejected
//! async fn reserve(cx: &mut Cx<'_, Db>, trip: TripRequested) -> StepResult<FlightReserved, FlightRejected> {
//!     let TripRequested { trip_id, seats } = trip;
//!     if seats > 9 {
//!         let reason = "group".to_owned();
//!         return Ok(Outcome::Refused(FlightRejected { trip_id, reason }));
//!     }
//!     cx.write(RESERVE, params![trip_id, seats])?;
//!     Ok(Outcome::Success(FlightReserved { trip_id }))
//! }
//!
//! // hotel.rejected | payment.declined | payment.refunded -> flight.released
//! async fn release(cx: &mut Cx<'_, Db>, flight: FlightReleased) -> Result<FlightReleased, StepError> {
//!     cx.write(RELEASE, params![flight.trip_id])?;
//!     Ok(flight)
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let reserve = Step::new("reserve", reserve).undone_by(release);
//!     let reserve = reserve.on::<(HotelRejected, PaymentDeclined, PaymentRefunded)>();
//!     saga::serve(Participant::named("flight").step(reserve))
//!         .http("127.0.0.1:8091")
//!         .migrations(&[Migration { name: "0001_seats", sql: SEATS }])
//!         .run()
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
//! | `postgres`, `sqlite` | `saga::database`: `Db`, `Tx`, `params!`, migrations; both by default |
//! | `service` | `saga::service`: settings, HTTP, signals, metrics, traces; and `kafka` |
//! | `tools` | `saga::tools`: a `saga` of one's own |
//! | `testing` | the test kit in the prelude |
//!
//! For one database alone: `default-features = false, features = ["service", "postgres"]`.
//!
//! # What a build needs
//!
//! Rust, a C compiler and make. `kafka`, and with it `service` and `tools`, compiles librdkafka, whose `configure` also asks for
//! a C++ compiler. Either install one (`apt-get install g++`), or put these lines into the `.cargo/config.toml` of your
//! workspace, as `saga new` does: they leave out librdkafka's C++ wrapper, which nothing here uses.
//!
//! ```toml
//! [env]
//! CXX = "cc"
//! GNUMAKEFLAGS = "LIBSUBDIRS=src"
//! ```
//!
//! Without either, the build of `rdkafka-sys` ends with
//!
//! ```text
//! ###                  Configure failed                   ###
//!  cxx (WITH_CXX) C++ compiler (c++)
//! command 'c++ --version' failed:
//! ```
//!
//! A dependency cannot set its users' environment, and the crate's feature `cmake-build` asks for a C++ compiler too.

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
        Emit, ErrorClass, Event, Never, Outcome, Participant, RetryPolicy, Rounds, SagaId, Step, StepError, StepResult,
        Trigger,
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
    pub use saga_store::{Db, Migration, Rows, Tx, Write as _, params};
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
