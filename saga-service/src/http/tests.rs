//! The guards and endpoints, without a socket and on virtual time.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, StatusCode, header},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use prometheus_client::registry::Registry;
use saga_core::{
    Participant,
    clock::{Clock, SystemClock},
    runtime::Health,
    store::Summary,
    testing::MemoryStore,
    trace::{Ids, Kind, NewSpan, NoTracer, Span, TraceContext, Tracer, Value},
};
use tower::ServiceExt;

use super::{DatabaseProbe, RequestQueue, Status, app};
use crate::{
    Json, Trace,
    config::HttpConfig,
    metrics::{HttpMetrics, Tables},
};

struct Shell {
    app: Router,
    status: Status,
    health: Health,
}

fn shell(routes: Router) -> Shell {
    traced(routes, Arc::new(NoTracer))
}

fn traced(routes: Router, tracer: Arc<dyn Tracer>) -> Shell {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry, "probe");
    let tables = Tables::register(&mut registry, async || Ok(Summary::default()));
    let health = Health::default();
    let database = DatabaseProbe::new(async || Ok(()));
    let declaration = Participant::<MemoryStore>::named("probe").declaration();
    let status = Status::new(health.clone(), registry, tables, database, &declaration);
    let queue = RequestQueue::for_requests(&HttpConfig { concurrency: 2, queue: 1, ..HttpConfig::default() }, 64);
    Shell { app: app(routes, status.clone(), queue, metrics, tracer), status, health }
}

impl Shell {
    async fn ask(&self, request: Request<Body>) -> (StatusCode, Response<()>, String) {
        let (head, body) = self.app.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (head.status, Response::from_parts(head, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Response<()>, String) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn the_participant_is_served_as_it_is_declared_also_before_the_database_is_there() {
    let (status, head, body) = shell(Router::new()).get("/participant").await;
    assert_eq!((status, &head.headers()[header::CONTENT_TYPE]), (StatusCode::OK, &"application/json".parse().unwrap()));
    assert_eq!(saga_core::graph::Declaration::read_all(body.as_bytes()).unwrap()[0].participant, "probe");
}

#[tokio::test]
async fn nothing_reaches_a_route_before_the_database_is_prepared() {
    let shell = shell(Router::new().route("/stock", get(async || "here")));
    let (status, head, body) = shell.get("/stock").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!(head.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(head.headers()[header::RETRY_AFTER], "1");
    assert_eq!(shell.get("/livez").await.0, StatusCode::OK);
    shell.status.prepared();
    assert_eq!(shell.get("/stock").await.2, "here");
}

#[tokio::test]
async fn readiness_names_everything_that_is_waited_for() {
    let shell = shell(Router::new());
    let nothing_yet = r#"{"ready":false,"waiting_for":["database: not connected yet","broker: not connected yet"]}"#;
    assert_eq!(shell.get("/readyz").await.2, nothing_yet);
    shell.health.set_waiting("topics", Some("order.events is missing".into()));
    shell.status.prepared();
    assert_eq!(shell.get("/readyz").await.2, r#"{"ready":false,"waiting_for":["topics: order.events is missing"]}"#);
    shell.health.set_waiting("topics", None);
    shell.status.connected();
    assert_eq!(shell.get("/readyz").await.2, r#"{"ready":false,"waiting_for":["group: not joined yet"]}"#);
    shell.status.joined();
    let (status, _, body) = shell.get("/readyz").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"ready":true,"waiting_for":[]}"#));
    assert!(shell.get("/metrics").await.2.contains("\nsaga_ready 1\n"));
    shell.status.stopping();
    let (status, _, body) = shell.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, r#"{"ready":false,"waiting_for":["shutdown: stopping"]}"#);
    assert!(shell.get("/metrics").await.2.contains("\nsaga_ready 0\n"));
}

#[tokio::test]
async fn requests_can_be_taken_while_the_database_is_there_and_the_service_goes_on() {
    let shell = shell(Router::new());
    let readiness = async || {
        let (status, _, body) = shell.get("/readyz/http").await;
        (status.as_u16(), body)
    };
    let waiting = |what: &str| (503, format!(r#"{{"ready":false,"waiting_for":["{what}"]}}"#));
    assert_eq!(readiness().await, waiting("database: not connected yet"));
    shell.health.set_waiting("database", Some("refused".into()));
    assert_eq!(readiness().await, waiting("database: refused"));
    shell.status.prepared();
    shell.health.set_waiting("broker", Some("away".into()));
    assert_eq!(readiness().await, (200, r#"{"ready":true,"waiting_for":[]}"#.to_owned()));
    shell.status.stopping();
    assert_eq!(readiness().await, waiting("shutdown: stopping"));
}

#[tokio::test]
async fn a_service_that_stops_answers_and_sends_its_callers_elsewhere() {
    let shell = shell(Router::new().route("/stock", get(async || "here")));
    shell.status.prepared();
    shell.health.turned(SystemClock.now() - Duration::from_secs(60));
    assert!(!shell.get("/stock").await.1.headers().contains_key(header::CONNECTION));
    shell.status.stopping();
    for path in ["/stock", "/livez"] {
        let (status, head, _) = shell.get(path).await;
        assert_eq!(
            (status, &head.headers()[header::CONNECTION]),
            (StatusCode::OK, &"close".parse().unwrap()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_request_beyond_the_queue_is_refused_at_once_and_probes_are_answered() {
    let open = Arc::new(tokio::sync::Notify::new());
    let waits = open.clone();
    let routes = Router::new().route("/slow", get(async move || waits.notified().await));
    let shell = shell(routes);
    shell.status.prepared();
    // Two at work, and one that waits.
    let mut taken: Vec<_> = (0..3).map(|_| Box::pin(shell.get("/slow"))).collect();
    for request in &mut taken {
        assert!(futures::poll!(request).is_pending());
    }
    let (status, head, body) = shell.get("/slow").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!(head.headers()[header::RETRY_AFTER], "1");
    assert_eq!(head.headers()[header::CONTENT_TYPE], "application/problem+json");
    for path in ["/livez", "/readyz/http", "/metrics"] {
        assert_eq!(shell.get(path).await.0, StatusCode::OK, "{path}");
    }
    // Whoever leaves makes room.
    taken.pop();
    let mut last = Box::pin(shell.get("/slow"));
    assert!(futures::poll!(&mut last).is_pending());
    for request in taken {
        open.notify_one();
        assert_eq!(request.await.0, StatusCode::OK);
    }
    open.notify_one();
    assert_eq!(last.await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_is_not_waited_for_for_long() {
    let shell = shell(Router::new().route("/slow", get(async || tokio::time::sleep(Duration::from_secs(20)).await)));
    shell.status.prepared();
    let all = futures::future::join_all((0..3).map(|_| shell.get("/slow"))).await;
    let answers: Vec<_> = all.iter().map(|(status, ..)| status.as_u16()).collect();
    assert_eq!(answers, [200, 200, 503]);
}

#[tokio::test]
async fn a_body_that_does_not_come_takes_no_turn() {
    let shell = shell(Router::new().route("/echo", post(async |Json(n): Json<u32>| Json(n))));
    shell.status.prepared();
    let request = || Request::post("/echo").header("content-type", "application/json");
    let never = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let mut slow: Vec<_> = (0..10).map(|_| Box::pin(shell.ask(request().body(never()).unwrap()))).collect();
    for request in &mut slow {
        assert!(futures::poll!(request).is_pending());
    }
    let (status, _, body) = shell.ask(request().body(Body::from("42")).unwrap()).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "42"));
}

#[tokio::test]
async fn metrics_come_in_a_format_that_the_caller_accepts() {
    let shell = shell(Router::new());
    let ask = async |accept: &str| {
        let request = Request::get("/metrics").header("accept", accept).body(Body::empty()).unwrap();
        let (status, head, _) = shell.ask(request).await;
        (status.as_u16(), head.headers()[header::CONTENT_TYPE].to_str().unwrap().split(';').next().unwrap().to_owned())
    };
    assert_eq!(ask("application/openmetrics-text;q=0, */*").await, (200, "text/plain".to_owned()));
    assert_eq!(ask("text/html, application/openmetrics-text").await.1, "application/openmetrics-text");
    assert_eq!(ask("*/*;q=0").await, (406, "application/problem+json".to_owned()));
}

#[tokio::test]
async fn a_loop_that_stands_still_is_not_alive_and_a_database_that_is_away_does_not_matter() {
    let shell = shell(Router::new());
    shell.health.set_waiting("database", Some("away".into()));
    shell.health.turned(SystemClock.now());
    assert_eq!(shell.get("/livez").await.0, StatusCode::OK);
    shell.health.turned(SystemClock.now() - Duration::from_secs(60));
    let (status, _, body) = shell.get("/livez").await;
    assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, r#"{"alive":false}"#));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_end_is_evicted() {
    let shell = shell(Router::new().route("/slow", get(async || tokio::time::sleep(Duration::MAX).await)));
    shell.status.prepared();
    assert_eq!(shell.get("/slow").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up_earlier_than_its_request() {
    let shell = shell(Router::new().route("/echo", post(async |Json(n): Json<u32>| Json(n))));
    shell.status.prepared();
    let stalls = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"4"))]).chain(stream::pending());
    let request = Request::post("/echo").header("content-type", "application/json");
    let (status, head, _) = shell.ask(request.body(Body::from_stream(stalls)).unwrap()).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(head.headers()[header::CONNECTION], "close");
}

#[tokio::test]
async fn a_caller_that_waits_for_a_go_ahead_is_refused_without_reading() {
    let shell = shell(Router::new().route("/echo", post(async |Json(n): Json<u32>| Json(n))));
    shell.status.prepared();
    let request = Request::post("/echo").header("content-type", "application/json");
    let request = request.header("expect", "100-continue").header("content-length", "262145");
    let never: stream::Pending<Result<Bytes, Infallible>> = stream::pending();
    let (status, ..) = shell.ask(request.body(Body::from_stream(never)).unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn metrics_name_the_build_the_process_and_the_routes() {
    let shell = shell(Router::new().route("/stock/{sku}", get(async || "here")));
    shell.status.prepared();
    shell.get("/stock/secret").await;
    shell.get("/nothing").await;
    let (_, head, text) = shell.get("/metrics").await;
    assert_eq!(head.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "build_info{service=\"probe\",version=\"",
        "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_route=\"/stock/{sku}\",http_response_status_code=\"200\"} 1",
        "http_route=\"\",http_response_status_code=\"404\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    if cfg!(target_os = "linux") {
        assert!(text.contains("process_resident_memory_bytes ") && text.contains("process_cpu_seconds_total "));
    }
    assert!(!text.contains("secret"), "{text}");
    let open_metrics = Request::get("/metrics").header("accept", "application/openmetrics-text; version=1.0.0");
    let (_, head, text) = shell.ask(open_metrics.body(Body::empty()).unwrap()).await;
    assert_eq!(head.headers()[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("# EOF\n"));
}

/// ConnectionSlots everything below the trace `1`, and keeps what it is told.
#[derive(Debug, Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    deaf: bool,
}

const PLACE: &str = "00-00000000000000000000000000000001-0000000000000002-01";

impl Tracer for Kept {
    fn new_span(&self, parent: &TraceContext, _new_trace: u128) -> NewSpan {
        let traceparent = Some(PLACE.to_owned());
        let parent_id = parent.traceparent.as_ref().map(|_| [3; 8]);
        NewSpan {
            context: TraceContext { traceparent, tracestate: parent.tracestate.clone() },
            ids: Some(Ids { trace_id: 1_u128.to_be_bytes(), span_id: 2_u64.to_be_bytes(), parent_id }),
        }
    }

    fn record(&self, span: Span) {
        self.spans.lock().unwrap().push(span);
    }

    fn propagates(&self) -> bool {
        !self.deaf
    }
}

#[tokio::test]
async fn a_request_is_a_span_and_what_follows_from_it_is_below_it() {
    let kept = Arc::new(Kept::default());
    let echo = get(async |Trace(trace): Trace| trace.traceparent.unwrap_or_default());
    let never: fn() -> StatusCode = || panic!("a defect");
    let routes = Router::new().route("/orders/{id}", echo).route("/defect", get(async move || never()));
    let shell = traced(routes, kept.clone());
    shell.status.prepared();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::get("/orders/secret").header("traceparent", parent).body(Body::empty()).unwrap();
    assert_eq!(shell.ask(request).await.2, PLACE);
    for path in ["/defect", "/livez", "/readyz", "/metrics", "/nothing"] {
        shell.get(path).await;
    }
    let spans = kept.spans.lock().unwrap();
    let [order, defect] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((order.name.as_ref(), order.kind), ("GET /orders/{id}", Kind::Server));
    assert_eq!((order.ids.parent_id, order.error.as_ref()), (Some([3; 8]), None));
    assert!(order.attributes.contains(&("http.response.status_code", Value::Int(200))), "{order:?}");
    assert!(!format!("{order:?}").contains("secret"), "{order:?}");
    assert_eq!((defect.name.as_ref(), defect.ids.parent_id), ("GET /defect", None));
    assert!(
        defect.attributes.contains(&("error.type", "500".to_owned().into())) && defect.error.is_some(),
        "{defect:?}"
    );
}

#[tokio::test]
async fn without_propagation_a_request_is_below_nothing_and_what_follows_is_below_it() {
    let kept = Arc::new(Kept { deaf: true, ..Kept::default() });
    let echo = get(async |Trace(trace): Trace| trace.traceparent.unwrap_or_default());
    let shell = traced(Router::new().route("/orders", echo), kept.clone());
    shell.status.prepared();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::get("/orders").header("traceparent", parent).body(Body::empty()).unwrap();
    assert_eq!(shell.ask(request).await.2, PLACE);
    assert_eq!(kept.spans.lock().unwrap()[0].ids.parent_id, None);
}

#[tokio::test]
async fn a_request_whose_caller_leaves_is_told_of_too() {
    let kept = Arc::new(Kept::default());
    let shell = traced(Router::new().route("/slow", get(async || std::future::pending::<()>().await)), kept.clone());
    shell.status.prepared();
    let ask = shell.get("/slow");
    assert!(futures::poll!(std::pin::pin!(ask)).is_pending());
    let spans = kept.spans.lock().unwrap();
    assert_eq!(spans.len(), 1);
    assert!(spans[0].attributes.contains(&("error.type", "cancelled".to_owned().into())), "{spans:?}");
}
