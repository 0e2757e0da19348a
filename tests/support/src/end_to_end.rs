//! The order flow as a user runs it: a world of four services as processes, and a reader of every record.
//!
//! A test's body is written once and runs in two modes: on the embedded broker and SQLite, and on a real Kafka and a real
//! PostgreSQL. Everything that a test process starts is removed when it ends, however it ends: see [`cleanup`].

#![allow(clippy::print_stderr, reason = "why a test is skipped, and the services' logs when it fails")]

pub mod broker;
pub mod cleanup;
pub mod database;
pub mod http;
pub mod invariants;
pub mod jaeger;
pub mod load;
pub mod mode;
pub mod orders;
pub mod records;
pub mod service;
pub mod world;

pub use http::Answer;
pub use jaeger::Jaeger;
pub use mode::{Mode, own_world, shared_world, traced_world};
pub use records::{Place, Seen};
pub use service::Who;
pub use world::World;
