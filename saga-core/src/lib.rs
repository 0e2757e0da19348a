//! Choreographed sagas: the model, the checker and the runtime, with no Kafka, SQL or HTTP crate below it.

// The derives name this crate `saga_core`, also when they are used in here.
extern crate self as saga_core;

pub mod barrier;
pub mod clock;
pub mod dead_letter;
pub mod envelope;
pub mod event;
pub mod graph;
pub mod handler;
pub mod outcome;
pub mod participant;
pub mod record;
pub mod retry;
pub mod runtime;
pub mod step;
pub mod store;
pub mod testing;
pub mod transport;

pub use event::{Event, SagaId, Trigger};
pub use outcome::{ErrorClass, Never, Outcome, StepError, StepResult};
pub use participant::Participant;
pub use retry::RetryPolicy;
pub use step::Step;
