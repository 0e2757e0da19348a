//! Who the spans are from.

use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, resource::TelemetryResourceDetector};
use uuid::Uuid;

use crate::config::TraceConfig;

/// The service and this run of it; `OTEL_RESOURCE_ATTRIBUTES` adds to that and may replace all of it, except for a name
/// that `OTEL_SERVICE_NAME` gives.
pub(super) fn of(config: &TraceConfig, participant: &str) -> Resource {
    let named = |(key, value): &(String, String)| KeyValue::new(key.clone(), value.clone());
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_service_name(format!("{participant}-service"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
        .with_attributes(config.resource.iter().map(named))
        .with_attributes(config.service_name.iter().map(|name| KeyValue::new("service.name", name.clone())))
        .build()
}
