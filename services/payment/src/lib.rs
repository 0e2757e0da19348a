//! The payment service: charges through a gateway, and gives back.
//!
//! Read `participant.rs` first: it is the whole of the service's part in the flow. `handlers.rs` does the steps,
//! `gateway.rs` says what a gateway must promise, `sandbox/` is one that needs no account, `store.rs` holds the SQL,
//! `http.rs` the routes, and `service.rs` puts them together.

pub mod gateway;
mod handlers;
pub mod http;
mod participant;
mod sandbox;
mod service;
mod store;

pub use gateway::Gateway;
pub use participant::participant;
pub use sandbox::SandboxGateway;
pub use service::service;
pub use store::MIGRATIONS;
