//! For tests: a collector that takes spans over a real socket, and behaves as badly as it is told to.

mod collector;

pub use collector::{Answer, Collector, Received};
