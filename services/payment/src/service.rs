//! Payment as a service: its name, address and tables, and what it is built from.

use std::sync::Arc;

use saga_service::{Deps, NoArgs, Parts, Service, ServiceError};
use saga_store::Migration;

use crate::{MIGRATIONS, SandboxGateway, http, participant};

/// The payment service, on the sandbox gateway.
#[derive(Clone, Copy, Debug)]
pub struct Payment;

impl Service for Payment {
    const NAME: &'static str = "payment";
    const HTTP_ADDR: &'static str = "127.0.0.1:8083";
    const MIGRATIONS: &'static [Migration] = MIGRATIONS;
    const KNOWN_EVENTS: &'static [&'static str] = order_flow_events::NAMES;
    type Args = NoArgs;

    fn build(_: &NoArgs, deps: &Deps) -> Result<Parts, ServiceError> {
        let gateway = Arc::new(SandboxGateway::beside(&deps.database_url, &deps.namespace)?);
        let routes = http::routes(deps.db.clone()).merge(http::sandbox_routes(gateway.clone()));
        let ledger = gateway.database().clone();
        Ok(Parts::new(participant(gateway)).with_routes(routes).with_database(ledger))
    }
}
