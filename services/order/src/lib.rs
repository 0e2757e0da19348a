//! The order service: takes orders, waits for the other three, and confirms or cancels.
//!
//! Start with `participant.rs`: it declares the service's part in the flow. `handlers.rs` contains the steps, `triggers.rs` the
//! events that start one of them alike, `domain.rs` the rules, `store.rs` the SQL, `http.rs` the routes, and `service.rs`
//! assembles them.

mod domain;
mod handlers;
pub mod http;
mod participant;
mod service;
mod store;
mod triggers;

pub use participant::participant;
pub use service::{OrderArgs, service};
pub use store::MIGRATIONS;
pub use triggers::NothingHeld;
