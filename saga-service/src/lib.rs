//! The shell that every participant's binary shares: configuration, start-up, HTTP, health, metrics, logging, shutdown.
//!
//! [`serve`] makes a [`Service`] of a participant; its binary's `main` is a call of [`Service::run`]. [`Service::run_until`] is
//! the same without a process around it: no environment, no signals, no exit. Several services can run in one process that way.

pub mod config;
mod error;
mod healthcheck;
mod http;
mod json;
mod metrics;
pub mod problem;
mod process;
mod run;
mod service;
mod startup;
mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;

pub use config::Config;
pub use error::ServiceError;
pub use json::{Json, MAX_BODY, Path};
pub use problem::Problem;
pub use run::Bound;
pub use service::{Deps, NoArgs, Parts, Service, serve};
pub use trace::Trace;
