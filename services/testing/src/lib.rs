//! Test support for the four services: databases, orders, HTTP calls, and handlers in a transaction.
//!
//! Everything in this crate panics when the setup of a test fails.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot be set up has failed")]

mod databases;
mod http;
mod orders;
mod step;

pub use databases::{in_memory, on_each_database};
pub use http::{Answer, call};
pub use orders::{address, item, order};
pub use step::{at, in_set_step, in_step};
