//! The inventory service: sets an order's items aside, or refuses it.
//!
//! Read `participant.rs` first: it is the whole of the service's part in the flow. `handlers.rs` does the steps,
//! `domain.rs` decides, `store.rs` holds the SQL, `http.rs` the routes, and `service.rs` puts them together.

mod domain;
mod handlers;
pub mod http;
mod participant;
mod service;
mod store;

pub use participant::participant;
pub use service::service;
pub use store::MIGRATIONS;
