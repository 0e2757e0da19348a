//! The payment service: charges through a gateway, and refunds.
//!
//! Start with `participant.rs`: it declares the service's part in the flow. `handlers.rs` contains the steps,
//! `gateway.rs` the interface to a gateway, `sandbox/` a gateway that needs no account, `store.rs` the SQL, `http.rs`
//! the routes, and `service.rs` assembles them.

pub mod gateway;
mod handlers;
pub mod http;
mod participant;
mod sandbox;
mod service;
mod store;

pub use gateway::Gateway;
pub use participant::{MoneyBack, participant};
pub use sandbox::SandboxGateway;
pub use service::service;
pub use store::MIGRATIONS;
