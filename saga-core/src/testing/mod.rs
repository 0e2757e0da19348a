//! Test doubles for the production runtime: an in-memory store and broker, a clock in virtual time, and a kit for tests
//! in the form given, when, then.

mod broker;
mod clock;
mod flow;
mod scenario;
mod store;
mod tracer;

pub use broker::{MemoryBroker, MemoryConsumer, MemoryProducer};
pub use clock::VirtualClock;
pub use flow::{Flow, Running};
pub use scenario::{Published, Scenario};
pub use store::{Fault, MemoryStore, MemoryTx};
pub use tracer::MemoryTracer;
