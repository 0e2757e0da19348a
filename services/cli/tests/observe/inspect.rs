//! `saga inspect`: each ending, and what it refuses.

use super::*;

async fn each_ending_is_shown(broker: Broker) {
    let sagas = [Saga::confirmed(), Saga::compensated(), Saga::dead_lettered(), Saga::reserved()];
    let [confirmed, compensated, dead, unfinished] = sagas.each_ref().map(Saga::id);
    for saga in sagas {
        broker.publish(saga.records.clone()).await;
        // An outbox publishes again after a crash.
        broker.publish(saga.records[..1].to_vec()).await;
    }
    let text = |id: &str, more: &[&str]| {
        stdout_of(broker.saga(&[&["inspect", id, "--since", "1h"], more].concat()).output().unwrap())
    };
    let document = |id: &str| -> Value { serde_json::from_str(&text(id, &["--json"])).unwrap() };

    let report = text(&confirmed, &[]);
    contains_in_order(
        &report,
        &["completed by order.confirmed, in 4 ms", "requested", "charge, on inventory.reserved", "duplicate"],
    );
    contains_in_order(&report, &[&format!("http://127.0.0.1:16686/trace/{TRACE}")]);
    assert!(!report.contains("Ada") && !report.contains('\u{1b}'), "{report}");
    assert!(text(&confirmed, &["--data"]).contains("Ada Lovelace"));
    let report = document(&confirmed);
    assert_eq!(
        (&report["status"], &report["ended_by"], &report["took_ms"]),
        (&json!("completed"), &json!("order.confirmed"), &json!(4.0))
    );
    // Other services on the same Kafka may dead-letter events that they cannot read.
    let events = report["timeline"].as_array().unwrap().iter().filter(|moment| moment["what"] != "dead_letter");
    assert_eq!((events.count(), &report["trace"][0]["trace_id"]), (6, &json!(TRACE)));

    let report = text(&compensated, &["--own-partition", "--trace-url", "https://traces.example/{trace_id}/x"]);
    contains_in_order(
        &report,
        &[
            "compensated by order.cancelled",
            "refused (payment_declined)",
            "compensates reserve",
            &format!("traces.example/{TRACE}/x"),
        ],
    );

    let report = text(&dead, &[]);
    contains_in_order(
        &report,
        &["unfinished", "dead-lettered by charge: retries_exhausted, 10 attempts", "gateway does not answer"],
    );
    contains_in_order(
        &report,
        &[
            "expected",
            "payment charge: payment.charged or payment.declined",
            "blocked by a dead letter (retries_exhausted)",
        ],
    );
    let report = document(&dead);
    assert!(report["dead_letters"].as_u64().unwrap() >= 1, "{report:#}");
    assert_eq!(report["expected"][0]["blocked_by"], "retries_exhausted");

    let report = document(&unfinished);
    assert_eq!((&report["status"], &report["expected"][0]["participant"]), (&json!("unfinished"), &json!("payment")));
    assert_eq!(report["deadlines"][0]["event"], "order.cancellation_requested");

    let missing = broker.saga(&["inspect", &SagaId::random().to_string(), "--since", "1h"]).output().unwrap();
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0));
    let message = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(message.contains("no record of saga") && message.contains("shipping.dlq"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ending_is_shown_embedded() {
    each_ending_is_shown(Broker::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ending_is_shown_live() {
    if let Some(broker) = Broker::live().await {
        each_ending_is_shown(broker).await;
    }
}

#[test]
fn a_broker_that_is_away_is_named_within_seconds() {
    for command in [&["inspect", "00000000-0000-0000-0000-000000000007"][..], &["watch"]] {
        let begun = Instant::now();
        let mut saga = Command::new(env!("CARGO_BIN_EXE_saga"));
        let output = saga.args(command).env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && message.contains("KAFKA_BOOTSTRAP_SERVERS"), "{message}");
        assert!(message.contains("127.0.0.1:1") && begun.elapsed() < Duration::from_secs(20), "{message}");
    }
}

#[test]
fn an_invalid_id_template_or_interval_is_a_usage_error() {
    let id = "00000000-0000-0000-0000-000000000007";
    for args in
        [&["inspect", "order-7"][..], &["inspect", id, "--trace-url", "http://here"], &["watch", "--interval", "0s"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_saga")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
