//! The inventory as a service: its name, address, tables and parts.

use saga_service::Service;

use crate::{MIGRATIONS, http, participant};

/// The inventory service.
pub fn service() -> Service {
    saga_service::serve(participant())
        .http("127.0.0.1:8082")
        .migrations(MIGRATIONS)
        .routes(|deps| http::routes(deps.db.clone()))
}
