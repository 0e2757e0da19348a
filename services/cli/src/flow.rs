//! The order flow, put together from the declarations of the four services without connecting to anything.

use std::{sync::Arc, time::Duration};

use payment_service::SandboxGateway;
use saga_core::{Namespace, graph::Choreography};
use saga_store::DatabaseUrl;

/// The default of `SAGA_DEADLINE`, which is drawn and documented whatever the environment sets.
const DEADLINE: Duration = Duration::from_secs(5 * 60);

/// The declarations cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the order flow cannot be put together: {0}")]
pub(crate) struct FlowError(String);

/// The whole flow.
pub(crate) fn order_flow() -> Result<Choreography, FlowError> {
    // The declaration of the charge names a gateway, whose database is never opened.
    let nowhere: DatabaseUrl = "sqlite::memory:".parse().map_err(failed)?;
    let gateway = SandboxGateway::beside(&nowhere, &Namespace::default()).map_err(failed)?;
    Ok(Choreography::of(vec![
        order_service::participant(DEADLINE).declaration(),
        inventory_service::participant().declaration(),
        payment_service::participant(Arc::new(gateway)).declaration(),
        shipping_service::participant().declaration(),
    ]))
}

fn failed(cause: impl std::fmt::Display) -> FlowError {
    FlowError(cause.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    /// Fails when the participants do not fit together; the message says what to change.
    #[test]
    fn the_four_participants_fit_together() {
        let findings: Vec<_> = order_flow().unwrap().check().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn a_total_that_is_not_the_sum_is_found_before_it_is_published() {
        let flow = order_flow().unwrap();
        let (_, created) = flow.events_named("order.created").next().unwrap();
        let order = serde_json::json!({
            "order_id": uuid::Uuid::from_u128(7), "customer_id": uuid::Uuid::from_u128(8), "currency": "EUR",
            "items": [{"sku": "SKU-1", "quantity": 2, "unit_price_cents": 1999}], "total_cents": 1,
            "payment_method": "tok_visa",
            "shipping_address": {"name": "A", "street": "B", "city": "C", "postal_code": "D", "country": "DE"},
        });
        let message = created.event.check(order.to_string().as_bytes()).unwrap_err().to_string();
        assert!(message.contains("total_cents"), "{message}");
    }

    /// Generated files in the repository.
    #[test]
    fn the_readme_and_the_contracts_show_the_flow_as_it_is() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let flow = order_flow().unwrap();
        let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
        let is_drawn = readme.contains(&format!("```mermaid\n{}```", flow.to_mermaid()));
        assert!(is_drawn, "README.md is out of date: cargo run -p saga-cli -- graph --write README.md");
        let differ = saga_tools::schemas_that_differ(&flow, std::path::Path::new(&format!("{root}/schemas"))).unwrap();
        assert!(differ.is_empty(), "{differ:?}: cargo run -p saga-cli -- schemas");
    }

    #[test]
    fn the_drawn_deadline_is_the_order_services_default() {
        let command = order_service::OrderArgs::augment_args(clap::Command::new("order"));
        let deadline = command.get_arguments().find(|arg| arg.get_id() == "saga_deadline").unwrap();
        assert_eq!((deadline.get_default_values(), DEADLINE.as_secs()), (["5m".into()].as_slice(), 300));
    }
}
