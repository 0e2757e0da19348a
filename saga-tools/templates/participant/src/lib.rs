//! {name}: a participant of a choreographed saga.

pub mod events;
pub mod participant;

pub use participant::{participant, service};
