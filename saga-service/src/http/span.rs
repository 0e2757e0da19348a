//! The span of a request to one of the service's own routes.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use saga_core::{
    clock::{Clock, SystemClock},
    trace::{Ids, Kind, Span, Tracer, Value},
};
use tracing::Instrument;
use uuid::Uuid;

use super::endpoints;
use crate::{metrics::method_name, trace::Trace};

/// Endpoints that are not traced.
const SHELL: [&str; 5] =
    [endpoints::LIVEZ, endpoints::READYZ, endpoints::READYZ_HTTP, endpoints::METRICS, endpoints::PARTICIPANT];

/// Places the request in a trace, and records its span when it ends.
pub(super) async fn record(State(tracer): State<Arc<dyn Tracer>>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().filter(|route| !SHELL.contains(&route.as_str())).cloned();
    let Some(route) = route else { return next.run(request).await };
    let parent = if tracer.propagates() { Trace::of(request.headers()) } else { Trace::default() };
    let span = tracer.new_span(&parent.0, Uuid::new_v4().as_u128());
    // At the highest level, so that warnings carry it even if nothing lower is logged.
    let log = tracing::error_span!("request", trace_id = span.context.trace_id());
    request.extensions_mut().insert(Trace(span.context));
    let Some(ids) = span.ids else { return next.run(request).instrument(log).await };
    let method = method_name(request.method());
    let mut served = Served { tracer, ids, method, route, start: SystemClock.now(), status: None };
    let response = next.run(request).instrument(log).await;
    served.status = Some(response.status());
    response
}

/// A request that is being served. Its span is recorded on drop, so that a cancelled request has one too, above the
/// events that it published.
struct Served {
    tracer: Arc<dyn Tracer>,
    ids: Ids,
    method: &'static str,
    route: MatchedPath,
    start: jiff::Timestamp,
    status: Option<StatusCode>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let route = self.route.as_str().to_owned();
        let named = if self.method == "_OTHER" { "HTTP" } else { self.method };
        let name = Cow::Owned(format!("{named} {route}"));
        // The route, because the path contains ids.
        let mut attributes: Vec<(_, Value)> = vec![
            ("http.request.method", self.method.into()),
            ("http.route", route.into()),
            ("url.scheme", "http".into()),
        ];
        let error = match self.status {
            Some(status) => {
                attributes.push(("http.response.status_code", i64::from(status.as_u16()).into()));
                status.is_server_error().then(|| status.as_str().to_owned())
            }
            None => Some("cancelled".to_owned()),
        };
        attributes.extend(error.clone().map(|error| ("error.type", error.into())));
        self.tracer.record(Span {
            ids: self.ids,
            kind: Kind::Server,
            name,
            start: self.start,
            end: SystemClock.now(),
            attributes,
            links: Vec::new(),
            // By the semantic conventions the status code is enough.
            error: error.map(|_| String::new()),
        });
    }
}
