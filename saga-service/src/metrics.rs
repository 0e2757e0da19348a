//! Metrics of the process itself: HTTP requests, build, process.

mod clock_skew;
mod consumer;
mod process;
mod tables;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub(crate) use clock_skew::ClockSkew;
pub(crate) use consumer::ConsumerCollector;
pub(crate) use tables::Tables;

use crate::telemetry::{SpanCounters, dropped_lines};

/// Buckets of OpenTelemetry's conventions for HTTP server durations, in seconds.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    http_request_method: &'static str,
    http_route: String,
    http_response_status_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    service: &'static str,
    version: &'static str,
}

/// Durations of requests, by route and status.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    duration: Family<Request, Histogram, fn() -> Histogram>,
}

impl HttpMetrics {
    /// Registers these metrics.
    pub(crate) fn register(registry: &mut Registry, service: &'static str) -> Self {
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { service, version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The service's name and version", build);
        registry.register_collector(Box::new(process::Process::new()));
        let lines = "Log lines that were not written, since their reader was too slow or is gone";
        registry.sub_registry_with_prefix("saga").register("log_lines_dropped", lines, dropped_lines());
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let duration = Family::new_with_constructor(histogram);
        registry.register_with_unit("http_server_request_duration", "HTTP requests", Unit::Seconds, duration.clone());
        Self { duration }
    }

    pub(crate) fn observe(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let labels = Request {
            http_request_method: method_name(method),
            http_route: route.to_owned(),
            http_response_status_code: status.as_u16(),
        };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// Registers the counters of exported and lost spans.
pub(crate) fn register_spans(registry: &mut Registry, spans: &SpanCounters) {
    let saga = registry.sub_registry_with_prefix("saga");
    saga.register("spans_exported", "Spans that the collector took", spans.exported.clone());
    let lost = "Spans of recorded traces that did not reach the collector";
    saga.register("spans_lost", lost, spans.lost.clone());
}

/// Writes a gauge that is computed per scrape.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &impl EncodeMetric) -> std::fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, value.metric_type())?;
    value.encode(metric)
}

/// The method as a label; unknown ones share a value, because callers can invent any.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
