//! What the variables say, which values are warned of, and which are refused.

use std::time::Duration;

use axum::http::HeaderValue;
use opentelemetry_otlp::Protocol;

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
    assert!(config.propagates && config.warnings.is_empty());
    let export = config.export.unwrap();
    assert_eq!(export.endpoint, "http://localhost:4318/v1/traces");
    assert_eq!((export.protocol, export.timeout), (Protocol::HttpBinary, Duration::from_secs(10)));
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
    let protocols = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")];
    assert_eq!(export(&protocols).protocol, Protocol::HttpJson);
}

#[test]
fn over_grpc_an_endpoint_has_no_path_and_may_have_no_scheme() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(export(&[grpc]).endpoint, "http://localhost:4317");
    for endpoint in ["https://all.example:4317", "collector:4317", "10.0.0.1:4317"] {
        assert_eq!(export(&[grpc, ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).endpoint, endpoint);
    }
    for endpoint in ["hunter2", "me:hunter2@collector:4317", "ftp://collector:4317"] {
        let error = of(&[grpc, ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).unwrap_err();
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: ") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn headers_may_stand_in_a_file_and_are_never_shown() {
    let path = |name: &str| std::env::temp_dir().join(format!("saga-headers-{name}-{}", std::process::id()));
    let (all, traces) = (path("all"), path("traces"));
    std::fs::write(&all, "authorization=Bearer%20hunter2, x-tenant = a\r\n").unwrap();
    std::fs::write(&traces, "x-key=hunter3,x key=hunter4\n").unwrap();
    let all = ("OTEL_EXPORTER_OTLP_HEADERS_FILE", all.to_str().unwrap());
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE", traces.to_str().unwrap());
    let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/in?key=hunter2");
    let config = of(&[all, endpoint]).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("authorization") && shown.contains("/in") && !shown.contains("hunter"), "{shown}");
    assert!(config.warnings.is_empty(), "{config:?}");
    let headers = config.export.unwrap().headers;
    assert_eq!(headers["authorization"], "Bearer hunter2");
    assert_eq!(headers["x-tenant"], HeaderValue::from_static("a"));
    let config = of(&[all, traces]).unwrap();
    assert_eq!(config.export.unwrap().headers["x-key"], "hunter3");
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(
        warning.starts_with("OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE: ") && !warning.contains("hunter"),
        "{warning}"
    );
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
        let both = of(&[all, (name, "a=b")]).unwrap_err();
        assert_eq!(both, format!("OTEL_EXPORTER_OTLP_HEADERS_FILE: {name} is set too; set one of them"));
    }
    for path in [all.1, traces.1] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn tracing_can_be_switched_off() {
    for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
        // What is not used is not looked at.
        let config = of(&[off, ("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense")]).unwrap();
        assert!(config.export.is_none() && config.propagates);
    }
}

#[test]
fn unknown_propagators_are_ignored_and_none_is_none() {
    let config = of(&[("OTEL_PROPAGATORS", "b3, TraceContext,jaeger")]).unwrap();
    assert!(config.propagates && config.warnings[0].starts_with("OTEL_PROPAGATORS: "), "{:?}", config.warnings);
    for none in ["none", "baggage", "b3"] {
        assert!(!of(&[("OTEL_PROPAGATORS", none)]).unwrap().propagates, "{none}");
    }
}

#[test]
fn case_does_not_matter() {
    let config = of(&[
        ("OTEL_TRACES_EXPORTER", "OTLP"),
        ("OTEL_TRACES_SAMPLER", "Always_On"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/JSON"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
        ("OTEL_SDK_DISABLED", "False"),
    ])
    .unwrap();
    assert_eq!((config.sampling, config.warnings), (Sampling::ALWAYS_ON, Vec::new()));
    assert_eq!(config.export.unwrap().protocol, Protocol::HttpJson);
    assert!(of(&[("OTEL_TRACES_EXPORTER", "None")]).unwrap().export.is_none());
}

#[test]
fn of_several_exporters_the_one_that_exists_is_used() {
    for (list, exports) in [("otlp,console", true), ("console, OTLP", true), ("none,console", false), ("zipkin", true)]
    {
        let config = of(&[("OTEL_TRACES_EXPORTER", list)]).unwrap();
        assert_eq!((config.export.is_some(), config.warnings.len()), (exports, 1), "{list}: {:?}", config.warnings);
        assert!(config.warnings[0].starts_with("OTEL_TRACES_EXPORTER: "), "{:?}", config.warnings);
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
fn a_value_that_is_not_known_is_warned_of_and_the_usual_one_is_used() {
    let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
    // The warnings, each by its beginning and by something in it.
    let cases: &[(&[Variable], &[Variable])] = &[
        (&[("OTEL_TRACES_SAMPLER: ", "parentbased_always_on is used")], &[("OTEL_TRACES_SAMPLER", "jaeger_remote")]),
        (&[("OTEL_TRACES_SAMPLER: ", "parentbased_always_on is used")], &[("OTEL_TRACES_SAMPLER", "xray")]),
        (&[("OTEL_TRACES_SAMPLER_ARG: ", "1 is used")], &[ratio, ("OTEL_TRACES_SAMPLER_ARG", "abc")]),
        (&[("OTEL_TRACES_SAMPLER_ARG: ", "0 to 1")], &[ratio, ("OTEL_TRACES_SAMPLER_ARG", "2")]),
        (&[("OTEL_TRACES_SAMPLER_ARG: ", "0 to 1")], &[ratio, ("OTEL_TRACES_SAMPLER_ARG", "NaN")]),
        (&[("OTEL_SDK_DISABLED: ", "false is used")], &[("OTEL_SDK_DISABLED", "yes")]),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL: ", "http/protobuf is used")], &[("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift")]),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT: ", "4318")], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT: ", "4317")],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")],
        ),
        (
            &[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: ", "http/json is used")],
            &[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "thrift"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")],
        ),
        (&[("OTEL_EXPORTER_OTLP_HEADERS: ", "1 of 2 are left out")], &[("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2")]),
        (&[("OTEL_EXPORTER_OTLP_HEADERS: ", "HTTP")], &[("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2")]),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION: ", "none is used")], &[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT: ", "10000 is used")], &[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")]),
        (&[("OTEL_RESOURCE_ATTRIBUTES: ", "1 of 2")], &[("OTEL_RESOURCE_ATTRIBUTES", "a=b,hunter2")]),
        (&[("OTEL_BSP_MAX_QUEUE_SIZE: ", "2048 is used")], &[("OTEL_BSP_MAX_QUEUE_SIZE", "0")]),
    ];
    for (expected, variables) in cases {
        let warned = of(variables).unwrap().warnings;
        let fits = |((name, what), line): (&Variable, &String)| line.starts_with(name) && line.contains(what);
        let all = warned.len() == expected.len() && expected.iter().zip(&warned).all(fits);
        assert!(all && !warned.concat().contains("hunter2"), "{variables:?}: {warned:?}");
    }
    assert_eq!(of(cases[2].1).unwrap().sampling, Sampling::ALWAYS_ON);
}

#[cfg(unix)]
#[test]
fn what_is_no_text_is_warned_of() {
    use std::os::unix::ffi::OsStringExt;
    let variables = [("OTEL_SERVICE_NAME".into(), OsString::from_vec(vec![0xff]))];
    assert_eq!(TraceConfig::of(variables).unwrap().warnings.len(), 1);
}

#[test]
fn what_would_be_silently_unsafe_is_refused_by_the_name_of_its_variable() {
    let cases: &[(&str, &str, &[Variable])] = &[
        ("OTEL_EXPORTER_OTLP_ENDPOINT: ", "URL", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT: ", "HEADERS", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@c:4318")]),
        ("OTEL_EXPORTER_OTLP_HEADERS_FILE: ", "cannot read", &[("OTEL_EXPORTER_OTLP_HEADERS_FILE", "/nonexistent")]),
        ("OTEL_EXPORTER_OTLP_HEADERS_FILE: ", "is empty", &[("OTEL_EXPORTER_OTLP_HEADERS_FILE", "/dev/null")]),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE: ", "cannot read", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent")]),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE: ", "no certificate", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/dev/null")]),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY: ", "CLIENT_CERTIFICATE", &[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/dev/null")]),
    ];
    for (named, fix, variables) in cases {
        let error = of(variables).unwrap_err();
        assert!(error.starts_with(named) && error.contains(fix) && !error.contains("hunter2"), "{error}");
    }
}
