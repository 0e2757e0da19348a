//! The inventory as a service: its name, address and tables, and what it is built from.

use saga_service::{Deps, NoArgs, Parts, Service, ServiceError};
use saga_store::Migration;

use crate::{MIGRATIONS, http, participant};

/// The inventory service.
#[derive(Clone, Copy, Debug)]
pub struct Inventory;

impl Service for Inventory {
    const NAME: &'static str = "inventory";
    const HTTP_ADDR: &'static str = "127.0.0.1:8082";
    const MIGRATIONS: &'static [Migration] = MIGRATIONS;
    const KNOWN_EVENTS: &'static [&'static str] = order_flow_events::NAMES;
    type Args = NoArgs;

    fn build(_: &NoArgs, deps: &Deps) -> Result<Parts, ServiceError> {
        Ok(Parts::new(participant()).with_routes(http::routes(deps.db.clone())))
    }
}
