//! `saga inspect` and `saga watch` against a broker: the embedded one, and a real Kafka where there is one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod inspect;
mod watch;

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
