//! An OTLP receiver on a thread of its own, for HTTP and gRPC on one port.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use flate2::read::GzDecoder;
use futures::stream;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::span::SpanKind,
};
use prost::Message;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Code, Status, codec::CompressionEncoding};

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All spans are taken.
    Take,
    /// So many spans of a request are rejected, by a partial success.
    RejectSome(i64),
    /// None is taken, with this status; over gRPC, as unavailable.
    Refuse(u16),
    /// None is taken, and the caller is sent elsewhere; over gRPC, as unavailable.
    Redirect,
    /// There is no answer.
    Hang,
    /// Success, and a body without end; over gRPC, as unavailable.
    Endless,
}

/// A span as it arrived. Ids are in hexadecimal; values are text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as OTLP names them")]
pub struct Received {
    pub resource: BTreeMap<String, String>,
    pub scope: String,
    pub trace_id: String,
    pub span_id: String,
    /// None for the first of a trace.
    pub parent_id: Option<String>,
    pub name: String,
    /// Such as `SPAN_KIND_SERVER`.
    pub kind: String,
    /// In nanoseconds of Unix time.
    pub start: u64,
    /// In nanoseconds of Unix time.
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
    /// The status' message, when it is an error.
    pub error: Option<String>,
}

/// A collector. It stops when it is dropped.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answer: Answer,
    spans: Vec<Received>,
    requests: Vec<HeaderMap>,
}

impl Collector {
    /// Starts one on any free port.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts one on this address, such as that of one that has stopped.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn start_at(addr: SocketAddr) -> io::Result<Self> {
        let shared = Shared { answer: Answer::Take, spans: Vec::new(), requests: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let grpc = TraceServiceServer::new(Grpc(shared.clone())).accept_compressed(CompressionEncoding::Gzip);
        let app = Router::new()
            .route("/v1/traces", post(take))
            .with_state(shared.clone())
            .route_service("/opentelemetry.proto.collector.trace.v1.TraceService/Export", grpc);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stop, told) = oneshot::channel::<()>();
        let serve = async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            tokio::select! {
                _ = axum::serve(listener, app) => {}
                _ = told => {}
            }
        };
        let thread = thread::Builder::new().name("collector".to_owned()).spawn(move || runtime.block_on(serve))?;
        Ok(Self { addr, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on, requests are answered so.
    pub fn answer(&self, answer: Answer) {
        self.shared().answer = answer;
    }

    /// What was taken so far.
    pub fn spans(&self) -> Vec<Received> {
        self.shared().spans.clone()
    }

    /// The headers of every request so far, also of those that were refused.
    pub fn requests(&self) -> Vec<HeaderMap> {
        self.shared().requests.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Gone already is stopped.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.requests.push(headers.clone());
        shared.answer
    };
    let response = match answer {
        Answer::Refuse(status) => {
            return StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        }
        Answer::Redirect => {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/v1/traces")]).into_response();
        }
        Answer::Hang => return std::future::pending().await,
        Answer::Endless => {
            let more = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[0; 4096])));
            return Body::from_stream(more).into_response();
        }
        Answer::RejectSome(spans) => rejecting(spans),
        Answer::Take => ExportTraceServiceResponse::default(),
    };
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let Some(request) = decode(&headers, &body, json) else { return StatusCode::BAD_REQUEST.into_response() };
    shared.lock().unwrap_or_else(PoisonError::into_inner).spans.extend(received(request));
    if json { axum::Json(response).into_response() } else { response.encode_to_vec().into_response() }
}

/// The same over gRPC.
struct Grpc(Arc<Mutex<Shared>>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let answer = {
            let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shared.requests.push(metadata.into_headers());
            shared.answer
        };
        let response = match answer {
            Answer::Take => ExportTraceServiceResponse::default(),
            Answer::RejectSome(spans) => rejecting(spans),
            Answer::Hang => return std::future::pending().await,
            Answer::Refuse(_) | Answer::Redirect | Answer::Endless => {
                return Err(Status::new(Code::Unavailable, "refused"));
            }
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spans.extend(received(request));
        Ok(tonic::Response::new(response))
    }
}

fn rejecting(rejected_spans: i64) -> ExportTraceServiceResponse {
    let partial_success = ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_owned() };
    ExportTraceServiceResponse { partial_success: Some(partial_success) }
}

fn decode(headers: &HeaderMap, body: &[u8], json: bool) -> Option<ExportTraceServiceRequest> {
    let gzipped = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let mut plain: Box<dyn Read> = if gzipped { Box::new(GzDecoder::new(body)) } else { Box::new(body) };
    let mut bytes = Vec::new();
    plain.read_to_end(&mut bytes).ok()?;
    if json { serde_json::from_slice(&bytes).ok() } else { Message::decode(&bytes[..]).ok() }
}

fn received(request: ExportTraceServiceRequest) -> Vec<Received> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.map(|scope| scope.name).unwrap_or_default();
            spans.extend(of_scope.spans.into_iter().map(|span| Received {
                resource: resource.clone(),
                scope: scope.clone(),
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent_id: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
                kind: SpanKind::try_from(span.kind).unwrap_or_default().as_str_name().to_owned(),
                name: span.name,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                attributes: attributes(span.attributes),
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                error: span.status.filter(|status| status.code == 2).map(|status| status.message),
            }));
        }
    }
    spans
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
