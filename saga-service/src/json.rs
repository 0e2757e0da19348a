//! JSON bodies and path parameters, refused with a problem document that says what is wrong and where.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use mediatype::{MediaTypeBuf, media_type};
use serde::{Serialize, de::DeserializeOwned};

use crate::problem::Problem;

/// The largest body that is accepted.
pub const MAX_BODY: usize = 256 * 1024;

/// How much of an oversized body is read and discarded, so that a caller that writes it all before reading still gets
/// the answer.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// Time limit of a body; a slower caller is stalled or hostile.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body, in requests and answers.
///
/// A request must have one `content-type: application/json` and no content coding (415), at most 256 KiB (413), JSON in
/// UTF-8 of a sane depth (400), and the shape of `T` (422).
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
        if let Err(problem) = is_json(&parts.headers) {
            discard(&parts.headers, body).await;
            return Err(problem.closing());
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

/// The request with its whole body. A JSON body is read; any other body is discarded.
pub(crate) async fn buffered(request: Request) -> Result<Request, Problem> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let body = if is_json(&parts.headers).is_ok() {
        Body::from(read(&parts.headers, body).await?)
    } else {
        discard(&parts.headers, body).await;
        Body::empty()
    };
    Ok(Request::from_parts(parts, body))
}

/// Checks for `application/json`, with any parameters and no content coding.
fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with_detail(detail);
    let codings =
        headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    if codings.map(<[u8]>::trim_ascii).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported("the body must be sent without a content coding")
            .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let only = types.next().and_then(|value| value.to_str().ok()?.parse::<MediaTypeBuf>().ok());
    if types.next().is_some() {
        return Err(Problem::bad_request("the content type is given more than once"));
    }
    match only {
        Some(only) if only.essence() == media_type!(APPLICATION / JSON) => Ok(()),
        _ => Err(unsupported("the content type must be application/json")),
    }
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

/// Reads and discards a body, unless its sender waits for `100 Continue`.
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
    // In both cases the answer follows and ends the connection.
    let _ = tokio::time::timeout(Duration::from_secs(2), all).await;
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    // Serde would read a list as a struct, field by field.
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

/// Describes the error without quoting the data, which may be personal.
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

/// The part of serde's message that describes the declared type.
fn shape(error: &serde_json::Error, message: &str) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(message);
    if message.starts_with("missing field `") || message.starts_with("duplicate field `") {
        return message.to_owned();
    }
    // The value comes first, and may contain the same words.
    match message.rsplit_once(", expected ").and_then(|(_, expected)| in_json(expected)) {
        Some(expected) => format!("expected {expected}"),
        None => "the value is not acceptable".to_owned(),
    }
}

/// The expected type in JSON's words.
fn in_json(expected: &str) -> Option<Cow<'_, str>> {
    let (kind, _) = expected.split_once(' ').unwrap_or((expected, ""));
    Some(Cow::Borrowed(match kind {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of 0 or more, in range",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number, in range",
        "f32" | "f64" => "a number",
        "struct" | "internally" | "adjacently" => "an object",
        "tuple" => "a list",
        "enum" => "one of its values",
        "unit" => "null",
        // Names of variants and fields, as in JSON.
        _ if kind.starts_with('`') || kind == "one" => return Some(Cow::Borrowed(expected)),
        _ => match expected {
            "a map" => "an object",
            "a sequence" => "a list",
            "a borrowed string" => "a string",
            _ if expected.starts_with("a nonzero ") => "a whole number, not 0, in range",
            _ if expected.starts_with("a tuple ") || expected.starts_with("an array ") => "a list of the right length",
            _ if kind == "a" || kind == "an" => return Some(Cow::Borrowed(expected)),
            _ => return None,
        },
    }))
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
        assert_eq!(
            (status, detail.as_str()),
            (422, "items[1].quantity: expected a whole number of 0 or more, in range")
        );
        assert_eq!(refused(br#"{"items": [{}]}"#), (422, "items[0]: missing field `quantity`".into()));
        assert_eq!(refused(b"[]").0, 422);
        assert_eq!(refused(b" [[{\"quantity\": 1}]]"), (422, "the body: expected an object".into()));
    }

    #[test]
    fn no_message_names_a_type_of_ours() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Kind {
            Parcel,
        }
        #[derive(Debug, Deserialize)]
        struct Everything {
            #[serde(rename = "order")]
            _order: Option<Order>,
            #[serde(rename = "kind")]
            _kind: Option<Kind>,
            #[serde(rename = "text")]
            _text: Option<String>,
            #[serde(rename = "id")]
            _id: Option<uuid::Uuid>,
            #[serde(rename = "pair")]
            _pair: Option<(i64, i64)>,
            #[serde(rename = "map")]
            _map: Option<std::collections::HashMap<String, bool>>,
            #[serde(rename = "least")]
            _least: Option<std::num::NonZeroU32>,
        }
        for (json, detail) in [
            ("7", "the body: expected an object"),
            (r#"{"order": 7}"#, "order: expected an object"),
            (r#"{"order": {"items": {}}}"#, "order.items: expected a list"),
            (r#"{"kind": "letter"}"#, "kind: expected `parcel`"),
            (r#"{"text": 7}"#, "text: expected a string"),
            (r#"{"id": 7}"#, "id: expected a formatted UUID string"),
            (r#"{"id": "7"}"#, "id: the value is not acceptable"),
            (r#"{"pair": [1]}"#, "pair: expected a list of the right length"),
            (r#"{"pair": ["1", 2]}"#, "pair[0]: expected a whole number, in range"),
            (r#"{"map": []}"#, "map: expected an object"),
            (r#"{"map": {"a": 1}}"#, "map.a: expected a boolean"),
            (r#"{"least": 0}"#, "least: expected a whole number, not 0, in range"),
            (r#"{"text": "a", "text": "b"}"#, "the body: duplicate field `text`"),
        ] {
            let problem = parse::<Everything>(json.as_bytes()).unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.detail()), (422, Some(detail)), "{json}");
        }
    }

    #[test]
    fn a_body_is_json_that_is_said_to_be_json_once_and_is_not_compressed() {
        let said = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            is_json(&map).map_err(|problem| problem.status().as_u16())
        };
        let json = ("content-type", "application/json");
        for content_type in
            ["application/json", "APPLICATION/JSON", "application/json;charset=utf-8", "application/json ; a=\"b;c\""]
        {
            assert_eq!(said(&[("content-type", content_type)]), Ok(()), "{content_type}");
        }
        for content_type in [
            "",
            "application/jsonp",
            "application/json, text/plain",
            "text/plain; a=application/json",
            "application/a+json",
        ] {
            assert_eq!(said(&[("content-type", content_type)]), Err(415), "{content_type}");
        }
        assert_eq!(said(&[]), Err(415));
        assert_eq!(said(&[json, json]), Err(400));
        assert_eq!(said(&[json, ("content-type", "text/plain")]), Err(400));
        for coding in ["identity", "Identity", "identity, identity", ""] {
            assert_eq!(said(&[json, ("content-encoding", coding)]), Ok(()), "{coding}");
        }
        for coding in ["gzip", "identity, br"] {
            assert_eq!(said(&[json, ("content-encoding", coding)]), Err(415), "{coding}");
        }
        assert_eq!(said(&[json, ("content-encoding", "identity"), ("content-encoding", "gzip")]), Err(415));
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
