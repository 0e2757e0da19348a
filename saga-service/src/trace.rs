//! The W3C trace context of an HTTP request, handed on to the events that the request causes.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use saga_core::{
    envelope::header,
    trace::{TraceContext, Traceparent},
};

/// Where the request stands in its trace: what follows from the request is a child of its span.
///
/// Without the shell around the route, it is the context that the request brings; empty when that is none or malformed.
///
/// ```
/// use saga_service::Trace;
///
/// async fn create(Trace(trace): Trace) -> String {
///     trace.traceparent.unwrap_or_default()
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(create));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace(pub TraceContext);

impl Trace {
    /// Reads the context of these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all(header::TRACEPARENT).iter();
        let traceparent = match (parents.next(), parents.next()) {
            (Some(only), None) => only.to_str().ok().filter(|t| Traceparent::parse(t).is_some()).map(str::to_owned),
            // Two parents cannot both be right, and nothing says which is.
            _ => None,
        };
        // Without its parent a state means nothing.
        let tracestate = traceparent.as_ref().and_then(|_| tracestate(headers));
        Self(TraceContext { traceparent, tracestate })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

/// All `tracestate` headers as one list. One that is longer than every vendor must carry is left out, not cut.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut list = String::new();
    for value in headers.get_all(header::TRACESTATE) {
        let value = value.to_str().ok()?.trim();
        if !value.is_empty() && !list.is_empty() {
            list.push(',');
        }
        list.push_str(value);
    }
    (!list.is_empty() && list.len() <= 512).then_some(list)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(headers: &[(&'static str, &'static str)]) -> TraceContext {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Trace::of(&map).0
    }

    #[test]
    fn a_well_formed_context_is_handed_on_as_it_is() {
        let trace = of(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!(trace.traceparent.as_deref(), Some(PARENT));
        assert_eq!(trace.tracestate.as_deref(), Some("a=1,b=2"));
    }

    #[test]
    fn a_malformed_context_is_as_good_as_none() {
        for parent in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(of(&[("traceparent", parent), ("tracestate", "a=1")]), TraceContext::default(), "{parent:?}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let parent = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(of(&[("traceparent", parent)]).traceparent.as_deref(), Some(parent));
    }

    #[test]
    fn two_parents_are_as_good_as_none() {
        assert_eq!(of(&[("traceparent", PARENT), ("traceparent", PARENT)]), TraceContext::default());
    }
}
