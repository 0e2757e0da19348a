//! Calls to outside systems, between a step's two transactions: their limits, their time and their circuit breaker.

pub(crate) mod breaker;
pub(crate) mod calls;
