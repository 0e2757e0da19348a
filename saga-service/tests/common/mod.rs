//! What the tests share: a service, a plain HTTP client, and patience.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod client;
pub(crate) mod ferry;
pub(crate) mod meeting;
pub(crate) mod probe;
pub(crate) mod tracking;

pub(crate) use saga_test_support::wait_for;
