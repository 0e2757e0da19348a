//! What the variables say, and which values are refused.

use std::time::Duration;

use axum::http::HeaderValue;

use super::*;

type Variable = (&'static str, &'static str);

fn of(variables: &[(&str, &str)]) -> Result<TraceConfig, String> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    TraceConfig::of(variables).map_err(|error| error.to_string())
}

fn export(variables: &[(&str, &str)]) -> Export {
    of(variables).unwrap().export.unwrap()
}

#[test]
fn spans_go_to_the_usual_place_by_default() {
    let config = of(&[("OTEL_TRACES_SAMPLER", ""), ("PATH", "x")]).unwrap();
    assert_eq!(config.sampling, Sampling::ALWAYS_ON.parent_based());
    assert!(config.propagates && config.ignored.is_empty());
    let export = config.export.unwrap();
    assert_eq!(export.endpoint, "http://localhost:4318/v1/traces");
    assert_eq!((export.wire, export.gzip, export.timeout), (Wire::Protobuf, false, Duration::from_secs(10)));
    assert_eq!((export.queue.size, export.queue.batch, export.queue.delay), (2048, 512, Duration::from_secs(5)));
}

#[test]
fn the_variable_for_traces_wins_and_is_taken_as_it_is() {
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://all.example:4318/otel/");
    assert_eq!(export(&[all]).endpoint, "https://all.example:4318/otel/v1/traces");
    let query = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all.example/?key=k");
    assert_eq!(export(&[query]).endpoint, "http://all.example/v1/traces?key=k");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces.example/in");
    assert_eq!(export(&[all, traces]).endpoint, "http://traces.example/in");
    let timeouts = [("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"), ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250")];
    assert_eq!(export(&timeouts).timeout, Duration::from_millis(250));
    assert_eq!(export(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).wire, Wire::Json);
    assert!(export(&[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")]).gzip);
}

#[test]
fn headers_are_decoded_and_never_shown() {
    let config = of(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2, x-tenant = a"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/in?key=hunter2"),
    ])
    .unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("authorization") && shown.contains("/in") && !shown.contains("hunter2"), "{shown}");
    let headers = config.export.unwrap().headers;
    assert_eq!(headers[0].1, "Bearer hunter2");
    assert_eq!((headers[1].0.as_str(), &headers[1].1), ("x-tenant", &HeaderValue::from_static("a")));
}

#[test]
fn the_service_may_be_named_and_described() {
    let config = of(&[
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a%2Cb,host.name=h"),
    ])
    .unwrap();
    assert_eq!(config.service_name.as_deref(), Some("shop"));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(config.resource, [pair("deployment.environment.name", "a,b"), pair("host.name", "h")]);
}

#[test]
fn tracing_can_be_switched_off() {
    for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
        // What is not used is not looked at.
        let config = of(&[off, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap();
        assert!(config.export.is_none() && config.propagates);
    }
    assert!(of(&[("OTEL_SDK_DISABLED", "yes")]).unwrap().export.is_some(), "only true is true");
}

#[test]
fn unknown_propagators_are_ignored_and_none_is_none() {
    let config = of(&[("OTEL_PROPAGATORS", "b3, tracecontext,jaeger")]).unwrap();
    assert_eq!((config.propagates, config.ignored), (true, vec!["b3".to_owned(), "jaeger".to_owned()]));
    for none in ["none", "baggage", "b3"] {
        assert!(!of(&[("OTEL_PROPAGATORS", none)]).unwrap().propagates, "{none}");
    }
}

#[test]
fn samplers_take_a_share_from_0_to_1() {
    let sampler = |name, arg| of(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]).unwrap().sampling;
    assert_eq!(sampler("traceidratio", "0.25"), Sampling::ratio(0.25));
    assert_eq!(sampler("parentbased_traceidratio", "0"), Sampling::ratio(0.0).parent_based());
    assert_eq!(sampler("traceidratio", ""), Sampling::ALWAYS_ON);
    assert_eq!(sampler("parentbased_always_off", "ignored"), Sampling::ALWAYS_OFF.parent_based());
}

#[test]
fn a_wrong_value_is_refused_by_the_name_of_its_variable() {
    let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
    let cases: &[(&str, &str, &[Variable])] = &[
        ("OTEL_TRACES_SAMPLER: ", "parentbased_always_on", &[("OTEL_TRACES_SAMPLER", "jaeger_remote")]),
        ("OTEL_TRACES_SAMPLER_ARG: ", "0 to 1", &[ratio, ("OTEL_TRACES_SAMPLER_ARG", "2")]),
        ("OTEL_TRACES_SAMPLER_ARG: ", "0 to 1", &[ratio, ("OTEL_TRACES_SAMPLER_ARG", "NaN")]),
        ("OTEL_TRACES_EXPORTER: ", "otlp or none", &[("OTEL_TRACES_EXPORTER", "console")]),
        ("OTEL_EXPORTER_OTLP_PROTOCOL: ", "http/protobuf", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: ", "http/json", &[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "thrift")]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT: ", "URL", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT: ", "HEADERS", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@c:4318")]),
        ("OTEL_EXPORTER_OTLP_HEADERS: ", "key=value", &[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]),
        ("OTEL_EXPORTER_OTLP_HEADERS: ", "HTTP", &[("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2")]),
        ("OTEL_EXPORTER_OTLP_COMPRESSION: ", "gzip", &[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]),
        ("OTEL_EXPORTER_OTLP_TIMEOUT: ", "from 1", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")]),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE: ", "cannot read", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent")]),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE: ", "no certificate", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/dev/null")]),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY: ", "CLIENT_CERTIFICATE", &[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/dev/null")]),
        ("OTEL_RESOURCE_ATTRIBUTES: ", "key=value", &[("OTEL_RESOURCE_ATTRIBUTES", "a=b,c")]),
        ("OTEL_BSP_MAX_QUEUE_SIZE: ", "from 1", &[("OTEL_BSP_MAX_QUEUE_SIZE", "0")]),
    ];
    for (named, fix, variables) in cases {
        let error = of(variables).unwrap_err();
        assert!(error.starts_with(named) && error.contains(fix) && !error.contains("hunter2"), "{error}");
    }
}
