//! Request bodies as JSON and path parameters, refused with a problem document that says what is wrong and where.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};

use crate::problem::Problem;

/// The largest body that is accepted.
pub const MAX_BODY: usize = 256 * 1024;

/// How much of a body that is too large is read and thrown away, so that a caller who writes it all before reading still
/// gets the answer instead of a broken connection.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// A body that takes longer is a stalled or hostile caller.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body, in requests and answers.
///
/// A request must say `content-type: application/json` (415), stay within 256 KiB (413), be JSON in UTF-8 of a sane depth
/// (400) and have the shape of `T` (422).
#[derive(Clone, Copy, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            discard(&parts.headers, body).await;
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .with_detail("the content type must be application/json")
                .closing());
        }
        parse(&read(&parts.headers, body).await?).map(Json)
    }
}

/// Path parameters, refused with 400 when they do not fit `T`.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status().is_server_error() => Err(Problem::internal(&rejection)),
            Err(_) => Err(Problem::bad_request("a path parameter is malformed")),
        }
    }
}

/// `application/json`, with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
            .with_detail(format!("the body is larger than {MAX_BODY} bytes"))
            .closing()
    };
    let declared = content_length(headers);
    if declared.is_some_and(|length| length > MAX_BODY) {
        discard(headers, body).await;
        return Err(too_large());
    }
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::with_capacity(declared.unwrap_or_default());
    let whole = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::bad_request("the body ended early").closing())?;
            if bytes.len() + chunk.len() > MAX_BODY {
                return Ok(false);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(true)
    };
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(true)) => Ok(bytes),
        Ok(Ok(false)) => {
            drain(chunks).await;
            Err(too_large())
        }
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT).with_detail("the body took too long").closing()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body that nobody wants, unless its sender waits for a go-ahead that it shall not get.
async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        drain(body.into_data_stream()).await;
    }
}

async fn drain(mut chunks: impl futures::Stream<Item = Result<Bytes, axum::Error>> + Unpin) {
    let all = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(chunk)) = chunks.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Either way the answer follows, and the connection ends with it.
    let _ = tokio::time::timeout(Duration::from_secs(2), all).await;
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    // Serde would take a list for a struct, field by field.
    if text.trim_start().starts_with('[') {
        return Err(Problem::unprocessable("the body: expected an object"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refusal(&path, error.inner())
    })?;
    json.end().map_err(|error| refusal(".", &error))?;
    Ok(value)
}

/// Says what is wrong without quoting what was sent, which may be personal.
fn refusal(path: &str, error: &serde_json::Error) -> Problem {
    use serde_json::error::Category;
    let message = error.to_string();
    match error.classify() {
        Category::Data => {
            let place = if path == "." { "the body".to_owned() } else { path.to_owned() };
            Problem::unprocessable(format!("{place}: {}", shape(error, &message)))
        }
        Category::Syntax if message.starts_with("recursion limit") => {
            Problem::bad_request("the body is nested too deeply")
        }
        Category::Eof => Problem::bad_request("the body is JSON that ends early"),
        Category::Syntax | Category::Io => {
            Problem::bad_request(format!("the body is not JSON: line {} column {}", error.line(), error.column()))
        }
    }
}

/// The part of serde's message that comes from the declared type, not from the data.
fn shape(error: &serde_json::Error, message: &str) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(message);
    if message.starts_with("missing field `") || message.starts_with("duplicate field `") {
        return message.to_owned();
    }
    // The value stands before it, and may itself contain the word.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "the value is not acceptable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order {
        #[serde(rename = "items")]
        _items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[serde(rename = "quantity")]
        _quantity: u32,
    }

    fn refused(json: &[u8]) -> (u16, String) {
        let problem = parse::<Order>(json).unwrap_err();
        (problem.status().as_u16(), problem.detail().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_wrong_shape_is_named_by_its_path_and_not_by_its_value() {
        let (status, detail) = refused(br#"{"items": [{"quantity": 1}, {"quantity": "se, expected cret"}]}"#);
        assert_eq!((status, detail.as_str()), (422, "items[1].quantity: expected u32"));
        assert_eq!(refused(br#"{"items": [{}]}"#), (422, "items[0]: missing field `quantity`".into()));
        assert_eq!(refused(b"[]").0, 422);
        assert_eq!(refused(b" [[{\"quantity\": 1}]]"), (422, "the body: expected an object".into()));
    }

    #[test]
    fn what_is_not_json_is_a_bad_request() {
        assert_eq!(refused(b"{\"items\": \xff}"), (400, "the body is not UTF-8".into()));
        assert_eq!(refused(b"{\"items\": ["), (400, "the body is JSON that ends early".into()));
        assert_eq!(refused(b""), (400, "the body is JSON that ends early".into()));
        assert_eq!(refused(b"{\"items\": []} x"), (400, "the body is not JSON: line 1 column 15".into()));
        assert_eq!(refused(&[b'['; 10_000]).0, 422);
        let deep = [b"{\"items\": ".as_slice(), &[b'['; 10_000]].concat();
        let problem = parse::<serde_json::Value>(&deep).unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.detail()), (400, Some("the body is nested too deeply")));
    }
}
