//! The W3C trace context of an HTTP request, passed on to the events that it causes.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use saga_core::{envelope::header, trace::TraceContext};

/// The request's place in its trace: the parent of what it causes.
///
/// On a route outside a [`Service`](crate::Service) it is the context that the request brings; empty without one, or
/// when it is malformed.
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
            (Some(only), None) => only.to_str().ok(),
            // Two parents contradict each other.
            _ => None,
        };
        Self(TraceContext::read(traceparent, tracestate(headers).as_deref()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

/// All `tracestate` headers as one list.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let values: Option<Vec<&str>> =
        headers.get_all(header::TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
    values.map(|values| values.join(","))
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
    fn a_state_beyond_its_limits_loses_its_end_whatever_headers_it_comes_in() {
        let (first, second) = ("a=1,".repeat(20), "b=2,".repeat(20));
        let leak = |text: &str| -> &'static str { String::leak(text.trim_end_matches(',').to_owned()) };
        let trace = of(&[("traceparent", PARENT), ("tracestate", leak(&first)), ("tracestate", leak(&second))]);
        assert_eq!(trace.tracestate, Some(format!("{first}{}", leak(&"b=2,".repeat(12)))));
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
