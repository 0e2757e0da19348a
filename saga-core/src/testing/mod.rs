//! Test doubles that run the very same runtime: a store and a broker in memory, a clock in virtual time, and a kit that
//! reads given, when, then.

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
