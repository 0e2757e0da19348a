//! The guards and endpoints, without a socket and on virtual time.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, StatusCode, header},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use prometheus_client::registry::Registry;
use saga_core::{
    clock::{Clock, SystemClock},
    runtime::{Health, Metrics},
};
use saga_store::Db;
use tower::ServiceExt;

use super::{Status, app};
use crate::{
    Json,
    metrics::{HttpMetrics, Tables},
};

struct Shell {
    app: Router,
    status: Status,
    health: Health,
}

fn shell(routes: Router) -> Shell {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry, "probe");
    let db = Db::open("sqlite::memory:".parse().unwrap(), "probe", &[]).unwrap();
    let tables = Tables::register(&mut registry, db, Metrics::default());
    let health = Health::default();
    let status = Status::new(health.clone(), registry, tables);
    Shell { app: app(routes, status.clone(), metrics), status, health }
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
    let (status, _, body) = shell.get("/readyz").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"ready":true,"waiting_for":[]}"#));
    shell.status.stopping();
    let (status, _, body) = shell.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, r#"{"ready":false,"waiting_for":["shutdown: stopping"]}"#);
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
async fn a_handler_that_does_not_end_is_given_up() {
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
