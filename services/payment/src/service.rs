//! Payment as a service: its name, address, tables and parts.

use std::sync::Arc;

use saga_service::{Deps, NoArgs, Parts, Service, ServiceError};

use crate::{MIGRATIONS, SandboxGateway, http, participant};

/// The payment service, on the sandbox gateway.
pub fn service() -> Service {
    Service::built("payment", parts)
        .http("127.0.0.1:8083")
        .migrations(MIGRATIONS)
        .routes(|deps| http::routes(deps.db.clone()))
}

fn parts(_: &NoArgs, deps: &Deps) -> Result<Parts, ServiceError> {
    let gateway = Arc::new(SandboxGateway::beside(&deps.database_url, &deps.namespace)?);
    let (ledger, routes) = (gateway.database().clone(), http::sandbox_routes(gateway.clone()));
    Ok(Parts::new(participant(gateway)).with_routes(routes).with_database(ledger))
}
