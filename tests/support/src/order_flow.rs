//! The order flow inside a test's own process: databases, events, calls on routes, and handlers in a transaction.
//!
//! Everything in here panics when it cannot do what a test asks of it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot be set up has failed")]

mod databases;
mod events;
mod handlers;
mod routes;

pub use databases::{in_memory, on_each_database};
pub use events::{address, item, order};
pub use handlers::{at, in_set_step, in_step};
pub use routes::{Answer, call};
