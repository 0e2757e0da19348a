//! `saga inspect` and `saga watch` against a broker: the embedded one, and a real Kafka where there is one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use order_flow_events::{
    InventoryReleased, InventoryReserved, OrderCancelled, OrderConfirmed, OrderCreated, PaymentCharged,
    PaymentDeclined, ShippingScheduled,
};
use saga_core::{
    SagaId,
    dead_letter::{Poison, Reason, letter},
    envelope::{Outgoing, seal},
    event::EventType,
    record::{OutRecord, Record},
    trace::TraceContext,
    transport::Producer as _,
};
use saga_kafka::{EmbeddedBroker, KafkaConfig, KafkaProducer, TopicSpec, ensure_topics};
use serde_json::{Value, json};
use uuid::Uuid;

const TOPICS: [&str; 8] = [
    "order.events",
    "inventory.events",
    "payment.events",
    "shipping.events",
    "order.dlq",
    "inventory.dlq",
    "payment.dlq",
    "shipping.dlq",
];
const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

struct Broker {
    config: KafkaConfig,
    embedded: Option<EmbeddedBroker>,
}

impl Broker {
    fn embedded() -> Self {
        Self::with_topics(&TOPICS)
    }

    fn with_topics(topics: &[&str]) -> Self {
        let embedded = EmbeddedBroker::start(topics, 6).unwrap();
        Self { config: embedded.config(), embedded: Some(embedded) }
    }

    async fn live() -> Option<Self> {
        let config = KafkaConfig::new(saga_test_support::servers::kafka()?);
        ensure_topics(&config, &TOPICS.map(|topic| TopicSpec::events(topic, 6, None))).await.unwrap();
        Some(Self { config, embedded: None })
    }

    fn saga(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saga"));
        command.args(args).env("KAFKA_BOOTSTRAP_SERVERS", self.config.bootstrap_servers());
        command.env_remove("SAGA_TRACE_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn publish(&self, records: Vec<OutRecord>) {
        let producer = KafkaProducer::new(&self.config).unwrap();
        // One by one: each is written after the one that caused it.
        for record in records {
            assert_eq!(producer.publish(vec![record]).await, [Ok(())]);
        }
    }
}

/// A saga's events as the services publish them, a millisecond apart.
struct Saga {
    id: SagaId,
    begun: Timestamp,
    records: Vec<OutRecord>,
    last: Option<Uuid>,
}

impl Saga {
    fn new() -> Self {
        Self { id: SagaId::random(), begun: Timestamp::now(), records: Vec::new(), last: None }
    }

    fn then<E: saga_core::Event>(mut self, source: &str) -> Self {
        let id = Uuid::now_v7();
        let cause = self.last.map(|id| id.to_string());
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        let outgoing = Outgoing {
            id,
            source,
            saga_id: self.id,
            causation_id: cause.as_deref(),
            time: self.begun + SignedDuration::from_millis(i64::try_from(self.records.len()).unwrap()),
            trace: &TraceContext { traceparent: Some(parent), tracestate: None },
            null_compensation: false,
        };
        let data = json!({"order_id": self.id.as_uuid(), "reason": "payment_declined", "name": "Ada Lovelace"});
        self.records.push(seal(EventType::of::<E>(), serde_json::to_vec(&data).unwrap(), &outgoing));
        self.last = Some(id);
        self
    }

    fn reserved() -> Self {
        Self::new().then::<OrderCreated>("order").then::<InventoryReserved>("inventory")
    }

    fn confirmed() -> Self {
        let charged = Self::reserved().then::<PaymentCharged>("payment");
        charged.then::<ShippingScheduled>("shipping").then::<OrderConfirmed>("order")
    }

    fn compensated() -> Self {
        let declined = Self::reserved().then::<PaymentDeclined>("payment");
        declined.then::<InventoryReleased>("inventory").then::<OrderCancelled>("order")
    }

    /// Payment has dead-lettered an event of it.
    fn dead_lettered() -> Self {
        let mut saga = Self::reserved();
        let OutRecord { topic, key, value, headers } = saga.records[1].clone();
        let record = Record { topic: topic.into_owned().into(), partition: 0, offset: 42, key, value, headers };
        let poison = Poison::new(Reason::RetriesExhausted, "the gateway does not answer");
        saga.records.push(letter("payment", &record, &poison, 10, saga.begun));
        saga
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

fn stdout_of(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The text holds the words in this order.
fn contains_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let found = rest.find(word).unwrap_or_else(|| panic!("no {word:?} where it belongs in:\n{text}"));
        rest = &rest[found + word.len()..];
    }
}

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

/// A running `saga watch --json`.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(broker: &Broker, since: Timestamp) -> Self {
        let args = ["watch", "--json", "--interval", "100ms", "--since", &since.to_string()];
        let mut child = broker.saga(&args).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let now: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if holds(&now) {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; {now:#}");
        }
    }

    fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

fn total(now: &Value, what: &str) -> u64 {
    now["totals"][what].as_u64().unwrap()
}

async fn sagas_are_counted_as_they_go(broker: Broker) {
    let since = Timestamp::now();
    for saga in [Saga::confirmed(), Saga::compensated(), Saga::dead_lettered(), Saga::reserved()] {
        broker.publish(saga.records).await;
    }
    let mut watch = Watch::start(&broker, since);
    let now = watch.until("read back", |now| now["caught_up"] == true);
    // Other sagas may be on a shared broker.
    let is_ours = broker.embedded.is_some();
    assert!(total(&now, "started") >= 4 && total(&now, "finished") >= 2 && total(&now, "dead_letters") >= 1, "{now:#}");
    let charge = now["waiting"].as_array().unwrap().iter().find(|row| row["step"] == "charge").unwrap();
    assert!(charge["sagas"].as_u64().unwrap() >= 2 && charge["blocked"].as_u64().unwrap() >= 1, "{now:#}");
    if is_ours {
        assert_eq!((total(&now, "started"), total(&now, "finished"), &now["in_flight"]), (4, 2, &json!(2)));
        assert_eq!(now["ended"], json!({"order.cancelled": 1, "order.confirmed": 1}));
        assert_eq!(now["oldest"][0]["blocked_by"], "retries_exhausted");
    }
    if let Some(embedded) = &broker.embedded {
        embedded.set_reachable(false);
        watch.until("the broker is missed", |now| now["trouble"].is_string());
        embedded.set_reachable(true);
        watch.until("the broker is back", |now| now["trouble"].is_null());
    }
    let finished = total(&now, "finished");
    broker.publish(Saga::confirmed().records).await;
    watch.until("one more has ended", |now| total(now, "finished") > finished);
    assert_eq!(watch.terminate().code(), Some(0));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_counted_as_they_go_embedded() {
    sagas_are_counted_as_they_go(Broker::embedded()).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_counted_as_they_go_live() {
    if let Some(broker) = Broker::live().await {
        sagas_are_counted_as_they_go(broker).await;
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_count_whatever_their_key() {
    let broker = Broker::embedded();
    let [event, letter] = [1, 2].map(|place| Saga::dead_lettered().records[place].clone());
    for key in [None, Some("order-7")] {
        let keyed = |record: &OutRecord| OutRecord { key: key.map(|key| key.as_bytes().to_vec()), ..record.clone() };
        broker.publish(vec![keyed(&event), keyed(&letter)]).await;
    }
    let mut watch = Watch::start(&broker, Timestamp::now() - SignedDuration::from_hours(1));
    let now = watch.until("read back", |now| now["caught_up"] == true);
    // Event topics may hold records of others, with other keys.
    assert_eq!((total(&now, "dead_letters"), total(&now, "unreadable")), (2, 1), "{now:#}");
    assert_eq!(watch.terminate().code(), Some(0));
}

/// A full standard output and its reader.
#[cfg(unix)]
fn full() -> (Stdio, std::os::unix::net::UnixStream) {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};
    // A pipe for which std can say when it is full.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[b'\n'; 4096]).is_ok() {}
    while ours.write(b"\n").is_ok() {}
    ours.set_nonblocking(false).unwrap();
    (OwnedFd::from(ours).into(), theirs)
}

/// The exit status; none if the process had to be killed.
#[cfg(unix)]
fn ended(mut child: Child) -> Option<ExitStatus> {
    let (id, (sender, receiver)) = (child.id().to_string(), std::sync::mpsc::channel());
    let waits = std::thread::spawn(move || sender.send(child.wait().unwrap()).unwrap());
    let status = receiver.recv_timeout(PATIENCE).ok();
    if status.is_none() {
        assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
    }
    waits.join().unwrap();
    status
}

#[cfg(unix)]
#[test]
fn a_signal_ends_watch_also_when_its_output_is_not_read() {
    let broker = Broker::with_topics(&TOPICS[..1]);
    for (signal, args) in [("-TERM", &["watch", "--json"][..]), ("-INT", &["watch"])] {
        let (stdout, _unread) = full();
        let mut child = broker.saga(args).stdout(stdout).spawn().unwrap();
        // The missing topics are reported just before the first line, which cannot be written.
        let mut remark = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut remark).unwrap();
        assert!(remark.contains("waiting for inventory.events"), "{remark}");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(ended(child).map(|status| status.code()), Some(Some(0)), "{signal}");
    }
}

#[test]
fn a_closed_pipe_ends_watch_quietly() {
    let broker = Broker::embedded();
    let mut child = broker.saga(&["watch", "--interval", "100ms"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("0 sagas in flight") && !line.contains('\u{1b}'), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
