//! Keeps a fixed number of sagas in flight: when one ends, the next one starts.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::bail;
use jiff::Timestamp;
use order_flow_events::{Address, Item, OrderCancelled, OrderConfirmed, OrderCreated};
use saga_core::{
    Event, SagaId,
    envelope::{Outgoing, header, open, seal},
    event::EventType,
    record::{OutRecord, Record},
    trace::TraceContext,
    transport::{Consumer, Producer, Signal},
};
use saga_kafka::{KafkaConfig, KafkaConsumer, KafkaProducer};
use uuid::Uuid;

use super::processes::SKUS;

/// The measurement fails when a saga takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
const ROOM: usize = 5_000;

pub(super) struct Load {
    producer: KafkaProducer,
    consumer: KafkaConsumer,
    in_flight: HashMap<SagaId, Instant>,
    placed: usize,
}

/// The result of a round.
pub(super) struct Round {
    pub(super) took: Duration,
    /// The time from publishing to the end of each saga that ended in the round, shortest first.
    pub(super) latencies: Vec<Duration>,
}

impl Round {
    pub(super) fn per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 sagas")]
        let count = self.latencies.len() as f64;
        count / self.took.as_secs_f64()
    }

    /// The latency that this share of the sagas did not exceed.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let at = ((self.latencies.len() as f64 * share).ceil() as usize).saturating_sub(1);
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl Load {
    /// Connects, and waits until the ends of sagas are received.
    pub(super) async fn start(kafka: &KafkaConfig) -> anyhow::Result<Self> {
        // A new group that starts at the end of the topic receives the ends of its own sagas only.
        let config = kafka.clone().with_property("auto.offset.reset", "latest")?;
        let group = format!("saga-bench-{}", Uuid::now_v7().simple());
        let mut consumer = KafkaConsumer::subscribe(&config, &group, &[OrderConfirmed::TOPIC.to_owned()])?;
        loop {
            match tokio::time::timeout(PATIENCE, consumer.next(ROOM)).await? {
                Signal::Assigned(_) => break,
                Signal::Fatal(why) => bail!("{why}"),
                _ => {}
            }
        }
        let mut load = Self { producer: KafkaProducer::new(kafka)?, consumer, in_flight: HashMap::new(), placed: 0 };
        // Each partition resolves "latest" at its first fetch, so single sagas are started until the ends of enough have arrived.
        let until = Instant::now() + PATIENCE;
        let mut ended = 0;
        while ended < 50 {
            if Instant::now() > until {
                bail!("the sagas do not end: is the flow of services complete on this broker?");
            }
            load.place(1).await?;
            let patience = Instant::now() + Duration::from_secs(1);
            while !load.in_flight.is_empty() && Instant::now() < patience {
                ended += load.ends(Duration::from_millis(100)).await?.len();
            }
            load.in_flight.clear();
        }
        Ok(load)
    }

    /// Keeps `in_flight` sagas in flight for this long, then waits for their ends.
    pub(super) async fn run(&mut self, in_flight: usize, length: Duration) -> anyhow::Result<Round> {
        let started = Instant::now();
        let until = started + length;
        let mut latencies = Vec::new();
        self.place(in_flight).await?;
        while Instant::now() < until {
            let ended = self.ends(until.saturating_duration_since(Instant::now())).await?;
            if Instant::now() < until {
                self.place(ended.len()).await?;
            }
            latencies.extend(ended);
        }
        let took = started.elapsed();
        let patience = Instant::now() + PATIENCE;
        while !self.in_flight.is_empty() {
            if Instant::now() > patience {
                bail!("{} sagas did not end within {PATIENCE:?}", self.in_flight.len());
            }
            self.ends(Duration::from_secs(1)).await?;
        }
        latencies.sort_unstable();
        Ok(Round { took, latencies })
    }

    async fn place(&mut self, count: usize) -> anyhow::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            self.placed += 1;
            let (id, record) = order(self.placed)?;
            self.in_flight.insert(id, Instant::now());
            records.push(record);
        }
        // The saga's end confirms more than the acknowledgement would.
        drop(self.producer.publish(records));
        Ok(())
    }

    /// The latencies of the sagas that ended since the last call. Waits at most `patience` for the first.
    async fn ends(&mut self, patience: Duration) -> anyhow::Result<Vec<Duration>> {
        let records = match tokio::time::timeout(patience, self.consumer.next(ROOM)).await {
            Err(_) => return Ok(Vec::new()),
            Ok(Signal::Records(records)) => records,
            Ok(Signal::Fatal(why)) => bail!("{why}"),
            Ok(_) => return Ok(Vec::new()),
        };
        let mut ended = Vec::new();
        for record in records {
            let Some((event_type, saga)) = end(&record) else { continue };
            let Some(since) = self.in_flight.remove(&saga) else { continue };
            if event_type != OrderConfirmed::NAME {
                bail!("order {saga} ended in {event_type}; the load is meant to be confirmed");
            }
            ended.push(since.elapsed());
        }
        Ok(ended)
    }
}

fn end(record: &Record) -> Option<(String, SagaId)> {
    let is_end = |value: &[u8]| value == OrderConfirmed::NAME.as_bytes() || value == OrderCancelled::NAME.as_bytes();
    let of_type = record.headers.iter().find(|h| h.is(header::TYPE))?;
    is_end(of_type.value.as_deref()?).then_some(())?;
    let (envelope, _) = open(record).ok()?.envelope().ok()?;
    Some((envelope.event_type, envelope.saga_id))
}

fn order(number: usize) -> anyhow::Result<(SagaId, OutRecord)> {
    let saga_id = SagaId::random();
    let event = OrderCreated {
        order_id: saga_id.as_uuid(),
        customer_id: Uuid::new_v4(),
        items: vec![Item { sku: format!("BENCH-{}", number % SKUS), quantity: 1, unit_price_cents: 1_999 }],
        currency: "EUR".to_owned(),
        payment_method: "tok_visa".to_owned(),
        shipping_address: Address {
            name: "Ada Lovelace".to_owned(),
            street: "12 St James's Square".to_owned(),
            city: "London".to_owned(),
            postal_code: "SW1Y 4JH".to_owned(),
            country: "GB".to_owned(),
        },
        total_cents: 1_999,
    };
    let outgoing = Outgoing {
        id: Uuid::now_v7(),
        source: "saga-bench",
        saga_id,
        causation_id: None,
        time: Timestamp::now(),
        trace: &TraceContext::default(),
        null_compensation: false,
    };
    Ok((saga_id, seal(EventType::of::<OrderCreated>(), serde_json::to_vec(&event)?, &outgoing)))
}
