//! The process around a participant: settings, start-up, HTTP, health, metrics, logging, shutdown.
//!
//! [`serve`] makes a [`Service`] of a participant, and its binary's `main` calls [`Service::run`].
//! [`Service::run_until`] runs a service without environment, signals or exit, so that several can share one process.

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
