//! RFC 9457 problem documents: the shape of every HTTP error.

use std::borrow::Cow;

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use saga_core::{ErrorClass, StepError, store::StoreError};
use serde::Serialize;

/// The media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An HTTP error. Its detail is written for the caller and quotes no value of the request.
///
/// ```
/// use axum::http::StatusCode;
/// use saga_service::problem::Problem;
///
/// let problem = Problem::not_found("no stock was ever set for this SKU");
/// assert_eq!(problem.status(), StatusCode::NOT_FOUND);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: Option<Cow<'static, str>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl Problem {
    /// A problem of this status; its title is the status's reason phrase.
    pub fn new(status: StatusCode) -> Self {
        Self { status, detail: None, headers: Vec::new() }
    }

    /// 400: the request cannot be read.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).with_detail(detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND).with_detail(detail)
    }

    /// 409: not possible in the current state.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT).with_detail(detail)
    }

    /// 422: readable, but not acceptable.
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY).with_detail(detail)
    }

    /// 503: something the service needs is unavailable; the caller may retry shortly.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE)
            .with_detail(detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// 500: a defect. The cause goes to the log; the caller learns only that it happened.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR).with_detail("the service failed to handle the request")
    }

    /// Sets what is wrong with this request.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Closes the connection after the answer, because the rest of the request was not read.
    #[must_use]
    pub(crate) fn closing(self) -> Self {
        self.with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong with this request, when it is known.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document =
            Document { kind: "about:blank", title, status: self.status.as_u16(), detail: self.detail.as_deref() };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.extend(self.headers);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Locked(_) => {
                tracing::warn!(%error, "a request was not handled");
                Self::unavailable("the database is unavailable")
            }
            // A missing table or right is not the request's fault, and can be fixed.
            StoreError::Broken(_) => {
                tracing::error!(%error, "a request was not handled");
                Self::unavailable("the database is not as this service needs it")
            }
            StoreError::Rejected(_) => Self::internal(&error),
        }
    }
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        match error.class() {
            ErrorClass::Transient | ErrorClass::Infrastructure => {
                tracing::warn!(%error, "a request was not handled");
                Self::unavailable("something the service needs is unavailable")
            }
            ErrorClass::Permanent => Self::internal(&error),
        }
    }
}

/// Marks an error answer whose shape a contract fixes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Final;

impl Final {
    pub(crate) fn mark() -> axum::Extension<Self> {
        axum::Extension(Self)
    }
}

/// Turns other error answers, such as the router's, into problem documents.
pub(crate) async fn normalise(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == CONTENT_TYPE);
    let is_final = response.extensions().get::<Final>().is_some();
    if !is_error || is_problem || is_final {
        return response;
    }
    let (parts, _) = response.into_parts();
    let mut problem = Problem::new(status).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            problem.headers_mut().append(name, value.clone());
        }
    }
    problem.map(Body::new)
}
