//! Jaeger itself as the tests use it: spans that are sent by OTLP can be queried.

use anyhow::{Result, ensure};
use saga_tests::{Jaeger, PATIENCE, eventually, http::send};
use serde_json::{Value, json};
use uuid::Uuid;

/// A service's spans in OTLP's JSON form.
fn spans(service: &str, spans: &Value) -> Value {
    let name = json!({"key": "service.name", "value": {"stringValue": service}});
    json!({"resource": {"attributes": [name]}, "scopeSpans": [{"spans": spans}]})
}

#[test]
fn spans_sent_by_otlp_are_found_as_a_tree() -> Result<()> {
    let Some(jaeger) = Jaeger::of_environment()? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (trace, elsewhere) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
        let first = json!([{
            "traceId": trace, "spanId": "00000000000000a1", "name": "ask", "kind": 3,
            "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000020000000",
        }]);
        // Linked to its parent as well, as a consumer is linked to the producer of its event.
        let second = json!([{
            "traceId": trace, "spanId": "00000000000000a2", "parentSpanId": "00000000000000a1", "name": "answer",
            "kind": 2, "startTimeUnixNano": "1700000000005000000", "endTimeUnixNano": "1700000000006000000",
            "links": [
                {"traceId": trace, "spanId": "00000000000000a1"},
                {"traceId": elsewhere, "spanId": "00000000000000b1"},
            ],
            "attributes": [{"key": "attempt", "value": {"intValue": "2"}}],
            "status": {"code": 2, "message": "no"},
        }]);
        let (asks, answers) = (format!("asks-{trace}"), format!("answers-{trace}"));
        let body = json!({"resourceSpans": [spans(&asks, &first), spans(&answers, &second)]});
        let http = reqwest::Client::builder().no_proxy().build()?;
        let answer = send(http.post(format!("{}/v1/traces", jaeger.otlp())).json(&body)).await?;
        ensure!(answer.status == 200, "{answer:?}");

        let found = eventually(PATIENCE, "both spans", async || {
            let found = jaeger.trace(&trace).await?;
            ensure!(found.spans.len() == 2, "{found}");
            Ok(found)
        })
        .await?;
        ensure!(found.to_string() == format!("{asks} ask\n  {answers} answer (error: no)\n"), "{found}");
        ensure!(found.paths() == [format!("{asks} ask > {answers} answer")], "{:?}", found.paths());
        let span = found.only(&answers, "answer")?;
        ensure!(span.kind() == "server" && span.number("attempt") == Some(2), "{span:?}");
        ensure!(span.duration.as_millis() == 1 && span.start == 1_700_000_000_005_000, "{span:?}");
        ensure!(span.links.iter().any(|(trace, _)| *trace == elsewhere), "{span:?}");
        let services = jaeger.services().await?;
        ensure!(services.contains(&asks) && services.contains(&answers), "{services:?}");
        // Jaeger answers with an error for an unknown trace.
        let unknown = jaeger.trace(&elsewhere).await;
        ensure!(unknown.is_err_and(|error| error.to_string().contains("404")), "an unknown trace");
        Ok(())
    })
}
