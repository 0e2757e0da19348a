//! A client of Jaeger's query API: the traces that the services have exported, and how their spans are related.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{http::send, mode};

/// A Jaeger that runs.
#[derive(Clone, Debug)]
pub struct Jaeger {
    query: String,
    otlp: String,
    http: reqwest::Client,
}

/// A trace as far as it has arrived: spans come one by one, so look for what is missing with
/// [`eventually`](crate::eventually()).
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// In hexadecimal.
    pub id: String,
    /// In the order in which they began.
    pub spans: Vec<Span>,
}

/// A piece of work, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// In hexadecimal; no other span of the trace has it.
    pub id: String,
    /// The span that led to it. It need not be among the trace's spans: the sender of a request may export none.
    pub parent: Option<String>,
    /// Trace and span ids of what it has to do with besides.
    pub links: Vec<(String, String)>,
    /// What was done.
    pub name: String,
    /// Who did it.
    pub service: String,
    /// When it began, in microseconds since 1970.
    pub start: i64,
    /// How long it took.
    pub duration: Duration,
    /// Its attributes, and what OpenTelemetry's own fields become: `span.kind`, `error`, `otel.status_description`.
    pub tags: BTreeMap<String, Value>,
    /// What happened meanwhile, the name as `event`.
    pub events: Vec<BTreeMap<String, Value>>,
}

impl Jaeger {
    /// The one that `JAEGER_QUERY_URL` and `JAEGER_OTLP_ENDPOINT` name. When there is none it is said, once per test.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    ///
    /// # Panics
    /// When there is none, and `SAGA_REQUIRE_LIVE=1`.
    pub fn of_environment() -> Result<Option<Self>> {
        let names = ["JAEGER_QUERY_URL", "JAEGER_OTLP_ENDPOINT"];
        if !mode::are_set(&names) {
            return Ok(None);
        }
        let [query, otlp] = names.map(|name| std::env::var(name).unwrap_or_default());
        Self::at(&query, &otlp).map(Some)
    }

    /// The one that answers queries at the one URL and receives OTLP over HTTP at the other.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(query: &str, otlp: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
        Ok(Self { query: trimmed(query), otlp: trimmed(otlp), http })
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn otlp(&self) -> &str {
        &self.otlp
    }

    /// The names of all services of which it has a span, in the alphabet's order.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn services(&self) -> Result<Vec<String>> {
        let answer = self.get("/api/services").await?;
        let names = answer["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// What has arrived of a trace so far.
    ///
    /// # Errors
    /// When nothing has.
    pub async fn trace(&self, id: &str) -> Result<Trace> {
        Trace::parse(&self.get(&format!("/api/traces/{id}")).await?)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = send(self.http.get(format!("{}{path}", self.query))).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text);
        Ok(answer.body)
    }
}

impl Trace {
    /// Reads an answer of `/api/traces/{id}`.
    ///
    /// # Errors
    /// When it is not one, or contains a span that cannot be placed: one that was exported twice, or that is its own ancestor.
    pub fn parse(answer: &Value) -> Result<Self> {
        let trace = &answer["data"][0];
        let id = text(trace, "traceID")?;
        let spans = trace["spans"].as_array().context("a trace without spans")?;
        let mut spans = spans
            .iter()
            .map(|span| parse_span(&id, span, &trace["processes"]).with_context(|| format!("{span}")))
            .collect::<Result<Vec<_>>>()?;
        spans.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
        let trace = Self { id, spans };
        let mut ids = BTreeSet::new();
        for span in &trace.spans {
            ensure!(ids.insert(&span.id), "span {} is there twice: {span}", span.id);
        }
        ensure!(
            trace.depth_first().len() == trace.spans.len(),
            "spans that are their own ancestors: {:?}",
            trace.spans
        );
        Ok(trace)
    }

    /// Spans that no other span of the trace led to. A trace that is whole has one.
    pub fn roots(&self) -> Vec<&Span> {
        let ids: BTreeSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        let is_root = |span: &&Span| span.parent.as_deref().is_none_or(|parent| !ids.contains(parent));
        self.spans.iter().filter(is_root).collect()
    }

    /// Spans that this one led to.
    pub fn children(&self, of: &Span) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.parent.as_ref() == Some(&of.id)).collect()
    }

    /// The span that led to this one, when it is there.
    pub fn parent(&self, of: &Span) -> Option<&Span> {
        let parent = of.parent.as_ref()?;
        self.spans.iter().find(|span| span.id == *parent)
    }

    /// All spans of this service and name.
    pub fn named(&self, service: &str, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.service == service && span.name == name).collect()
    }

    /// The one span of this service and name.
    ///
    /// # Errors
    /// When there is none, or more than one: shows the trace.
    pub fn only(&self, service: &str, name: &str) -> Result<&Span> {
        let found = self.named(service, name);
        ensure!(found.len() == 1, "{} times {service} {name} in\n{self}", found.len());
        Ok(found[0])
    }

    /// Every span after the one that led to it, with the number of its ancestors.
    pub fn depth_first(&self) -> Vec<(usize, &Span)> {
        let mut ordered = Vec::with_capacity(self.spans.len());
        let mut next: Vec<_> = self.roots().into_iter().rev().map(|root| (0, root)).collect();
        while let Some((depth, span)) = next.pop() {
            ordered.push((depth, span));
            next.extend(self.children(span).into_iter().rev().map(|child| (depth + 1, child)));
        }
        ordered
    }

    /// The way from a root to every span that led to no other:
    /// `order-service POST /orders > order-service send order.events > inventory-service process order.events`.
    pub fn paths(&self) -> Vec<String> {
        let leaves = self.spans.iter().filter(|span| self.children(span).is_empty());
        let path = |leaf| {
            let ancestors = std::iter::successors(Some(leaf), |span: &&Span| self.parent(span));
            let mut path: Vec<String> = ancestors.map(|span| span.to_string()).collect();
            path.reverse();
            path.join(" > ")
        };
        leaves.map(path).collect()
    }
}

/// The tree, a span per line, without times.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, span) in self.depth_first() {
            write!(f, "{}{span}", "  ".repeat(depth))?;
            if let Some(error) = span.error() {
                write!(f, " (error: {error})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Span {
    /// A tag's text, empty when there is none.
    pub fn text(&self, tag: &str) -> &str {
        self.tags.get(tag).and_then(Value::as_str).unwrap_or_default()
    }

    /// A tag's number.
    pub fn number(&self, tag: &str) -> Option<i64> {
        self.tags.get(tag).and_then(Value::as_i64)
    }

    /// What went wrong, if something did; empty when nothing is said about it.
    pub fn error(&self) -> Option<&str> {
        (self.tags.get("error") == Some(&Value::Bool(true))).then(|| self.text("otel.status_description"))
    }

    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub fn kind(&self) -> &str {
        self.text("span.kind")
    }

    /// When it was over, in microseconds since 1970.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(i64::try_from(self.duration.as_micros()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.name)
    }
}

fn parse_span(trace_id: &str, span: &Value, processes: &Value) -> Result<Span> {
    let mut parent = None;
    let mut links = Vec::new();
    for reference in span["references"].as_array().into_iter().flatten() {
        let (trace, id) = (text(reference, "traceID")?, text(reference, "spanID")?);
        if parent.is_none() && reference["refType"] == "CHILD_OF" && trace == trace_id {
            parent = Some(id);
        } else {
            links.push((trace, id));
        }
    }
    // A span that also links to its parent is shown as following from it, and no longer as its child.
    if parent.is_none() {
        parent = links.iter().find(|(trace, _)| trace == trace_id).map(|(_, id)| id.clone());
    }
    let process = &processes[text(span, "processID")?];
    let events = span["logs"].as_array().into_iter().flatten();
    Ok(Span {
        id: text(span, "spanID")?,
        parent,
        links,
        name: text(span, "operationName")?,
        service: text(process, "serviceName")?,
        start: span["startTime"].as_i64().context("no start")?,
        duration: Duration::from_micros(span["duration"].as_u64().context("no duration")?),
        tags: pairs(&span["tags"]),
        events: events.map(|event| pairs(&event["fields"])).collect(),
    })
}

fn text(object: &Value, field: &str) -> Result<String> {
    Ok(object[field].as_str().with_context(|| format!("no {field}"))?.to_owned())
}

fn pairs(list: &Value) -> BTreeMap<String, Value> {
    let pairs = list.as_array().into_iter().flatten();
    pairs.filter_map(|pair| Some((pair["key"].as_str()?.to_owned(), pair["value"].clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made up in the shape of Jaeger's answers, with what a real trace rarely has together: errors, links, names that
    /// must be escaped. That real answers are read is for tests/traces.rs.
    fn answer() -> Value {
        serde_json::from_str(include_str!("jaeger/answer.json")).unwrap()
    }

    fn trace() -> Trace {
        Trace::parse(&answer()).unwrap()
    }

    #[test]
    fn an_answer_of_jaeger_is_read_as_a_tree() {
        let shown = trace().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[..8],
            [
                "order-service POST /orders",
                "  order-service send order.events",
                "    inventory-service process order.events",
                "      inventory-service send inventory.events",
                "        payment-service process inventory.events",
                "          payment-service charge <gateway> & wait (error: the gateway did not answer)",
                "          payment-service charge <gateway> & wait",
                "          payment-service send payment.events",
            ]
        );
        assert_eq!(lines.len(), 16);
    }

    #[test]
    fn a_request_whose_sender_told_nothing_is_the_root() {
        let trace = trace();
        assert_eq!(trace.roots().iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["POST /orders"]);
        assert_eq!(trace.roots()[0].parent.as_deref(), Some("00f067aa0ba902b7"));
    }

    #[test]
    fn children_parents_and_paths_follow_the_references() {
        let trace = trace();
        let charge = trace.only("payment-service", "process inventory.events").unwrap();
        let names: Vec<_> = trace.children(charge).into_iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["charge <gateway> & wait", "charge <gateway> & wait", "send payment.events"]);
        assert_eq!(trace.parent(charge).unwrap().name, "send inventory.events");
        let paths = trace.paths();
        assert_eq!(paths.len(), 3);
        assert!(
            paths[0].starts_with("order-service POST /orders > order-service send order.events > inventory-service ")
        );
        assert!(trace.only("payment-service", "charge <gateway> & wait").is_err());
    }

    #[test]
    fn links_are_kept_apart_from_the_parent() {
        let trace = trace();
        let refund = trace.only("payment-service", "process shipping.events").unwrap();
        assert_eq!(refund.parent.as_deref(), Some("000000000000000a"));
        let elsewhere = ("0af7651916cd43dd8448eb211c80319c".to_owned(), "b7ad6b7169203331".to_owned());
        assert_eq!(refund.links, [(trace.id.clone(), "0000000000000005".to_owned()), elsewhere]);
        // This one's parent was sent as parent and as link.
        let release = trace.only("inventory-service", "process payment.events").unwrap();
        assert_eq!(release.parent.as_deref(), Some("000000000000000c"));
    }

    #[test]
    fn tags_errors_and_times_are_read() {
        let trace = trace();
        let [failed, charged] = trace.named("payment-service", "charge <gateway> & wait")[..] else {
            panic!("{trace}")
        };
        assert_eq!((failed.error(), charged.error()), (Some("the gateway did not answer"), None));
        assert_eq!((failed.number("saga.attempt"), charged.number("saga.attempt")), (Some(1), Some(2)));
        assert_eq!((failed.kind(), failed.text("no.such.tag")), ("client", ""));
        assert_eq!(failed.events[0]["event"], "exception");
        assert_eq!((failed.duration, failed.end()), (Duration::from_micros(5100), trace.spans[0].start + 15_300));
    }

    #[test]
    fn a_span_told_twice_or_in_a_circle_is_an_error() {
        let mut twice = answer();
        let first = twice["data"][0]["spans"][0].clone();
        twice["data"][0]["spans"].as_array_mut().unwrap().push(first);
        assert!(Trace::parse(&twice).unwrap_err().to_string().contains("twice"));
        let mut circle = answer();
        for span in circle["data"][0]["spans"].as_array_mut().unwrap() {
            if span["spanID"] == "0000000000000001" {
                span["references"][0]["spanID"] = json!("0000000000000010");
            }
        }
        assert!(Trace::parse(&circle).unwrap_err().to_string().contains("ancestors"));
        assert!(Trace::parse(&json!({"data": null, "errors": [{"code": 404}]})).is_err());
    }
}
