//! What tests share, so that each piece is written once: patience, proxies, servers, and the order flow.
//!
//! Everything is for tests alone: what a test cannot do without panics or fails with the reason.
//!
//! | feature | modules | for |
//! |---|---|---|
//! | none | [`eventually`](mod@eventually), [`proxy`], [`postgres_proxy`], [`postgres_url`] | every crate |
//! | `servers` | `servers`: Kafka and PostgreSQL, given or in containers | the crates on Kafka and PostgreSQL |
//! | `order-flow` | `order_flow`: its events and handlers in this process; `end_to_end`: its services as processes | the services and their end-to-end tests |

#[cfg(feature = "order-flow")]
pub mod end_to_end;
pub mod eventually;
#[cfg(feature = "order-flow")]
pub mod order_flow;
pub mod postgres_proxy;
pub mod postgres_url;
pub mod proxy;
#[cfg(feature = "servers")]
pub mod servers;

pub use eventually::{PATIENCE, eventually, wait_for, wait_until};
