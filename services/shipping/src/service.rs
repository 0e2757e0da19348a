//! Shipping as a service: its name, address and tables, and what it is built from.

use saga_service::{Deps, NoArgs, Parts, Service, ServiceError};
use saga_store::Migration;

use crate::{MIGRATIONS, http, participant};

/// The shipping service.
#[derive(Clone, Copy, Debug)]
pub struct Shipping;

impl Service for Shipping {
    const NAME: &'static str = "shipping";
    const HTTP_ADDR: &'static str = "127.0.0.1:8084";
    const MIGRATIONS: &'static [Migration] = MIGRATIONS;
    const KNOWN_EVENTS: &'static [&'static str] = order_flow_events::NAMES;
    type Args = NoArgs;

    fn build(_: &NoArgs, deps: &Deps) -> Result<Parts, ServiceError> {
        Ok(Parts::new(participant()).with_routes(http::routes(deps.db.clone())))
    }
}
