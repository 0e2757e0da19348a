//! The order service: takes orders, waits for the other three, and confirms or cancels.
//!
//! Read `participant.rs` first: it is the whole of the service's part in the flow. `handlers.rs` does the steps,
//! `domain.rs` holds the rules, `store.rs` the SQL, `http.rs` the routes, and `service.rs` puts them together.

mod domain;
mod handlers;
pub mod http;
mod participant;
mod service;
mod store;

pub use participant::{NothingHeld, participant};
pub use service::{OrderArgs, service};
pub use store::MIGRATIONS;
