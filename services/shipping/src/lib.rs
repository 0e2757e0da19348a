//! The shipping service: schedules the parcel, or refuses the address.
//!
//! Start with `participant.rs`: it declares the service's part in the flow. `handlers.rs` contains the steps,
//! `domain.rs` the decisions, `store.rs` the SQL, `http.rs` the routes, and `service.rs` assembles them.

mod domain;
mod handlers;
pub mod http;
mod participant;
mod service;
mod store;

pub use participant::participant;
pub use service::service;
pub use store::MIGRATIONS;
