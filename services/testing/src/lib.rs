//! What the tests of the four services share: databases, orders, HTTP calls, and handlers in a transaction.
//!
//! Everything in here panics when it cannot do what a test asks of it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot be set up has failed")]

mod databases;
mod http;
mod orders;
mod step;

pub use databases::{in_memory, on_each_database};
pub use http::{Answer, call};
pub use orders::{address, item, order};
pub use step::{at, in_set_step, in_step};
