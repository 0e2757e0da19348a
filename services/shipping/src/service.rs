//! Shipping as a service: its name, address and tables, and what it is built from.

use saga_service::Service;

use crate::{MIGRATIONS, http, participant};

/// The shipping service.
pub fn service() -> Service {
    saga_service::serve(participant())
        .http("127.0.0.1:8084")
        .migrations(MIGRATIONS)
        .routes(|deps| http::routes(deps.db.clone()))
}
