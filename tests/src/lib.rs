//! What the end-to-end tests share: a world of four services as processes, a reader of every record, and patience.
//!
//! A test's body is written once and runs in two modes: on the embedded broker and SQLite, and on a real Kafka and a real
//! PostgreSQL. Everything that a test process starts is removed when it ends, however it ends: see [`janitor`].

pub mod broker;
pub mod database;
pub mod door;
pub mod drawing;
pub mod eventually;
pub mod http;
pub mod invariants;
pub mod jaeger;
pub mod janitor;
pub mod load;
pub mod mode;
pub mod orders;
pub mod records;
pub mod service;
pub mod world;

pub use eventually::{PATIENCE, eventually};
pub use http::Answer;
pub use jaeger::Jaeger;
pub use mode::{Mode, own_world, shared_world, traced_world};
pub use records::{Place, Seen};
pub use service::Who;
pub use world::World;
