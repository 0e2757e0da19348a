//! `saga produce`: publishes one event, checked before it leaves.

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use order_flow_events::OrderCreated;
use saga_core::{
    Event, SagaId,
    envelope::{self, Outgoing},
    event::DecodeError,
    graph::EventKey,
    record::OutRecord,
    trace::TraceContext,
    transport::{Producer, PublishError},
};
use saga_kafka::{KafkaConfig, KafkaError, KafkaProducer, ReadError, Reader};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    commands::order::OrderArgs,
    contract::{ContractError, faults},
    flow::{TypedEvent, typed_events},
    kafka::{KafkaArgs, KafkaArgsError},
    output::{OutputError, print, print_json},
};

/// Publish one event, checked against its schema and its rules
#[derive(Args)]
pub(crate) struct Produce {
    /// An event of the order flow, such as order.created
    event: String,
    /// Read the data from this file, - is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "OrderArgs")]
    file: Option<PathBuf>,
    /// The order, which is also the saga [default: a new id, or the file's]
    #[arg(long, value_name = "UUID", conflicts_with = "file")]
    order_id: Option<Uuid>,
    /// Publish under this ce_id [default: a new id]; however often an event is published under one id, it is handled once
    #[arg(long, value_name = "UUID")]
    event_id: Option<Uuid>,
    /// Print what was published as JSON
    #[arg(long)]
    json: bool,
    /// How many seconds to wait for the broker's confirmation
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProduceError {
    #[error("{0} is no event of the order flow; these are: {1}")]
    UnknownEvent(String, String),
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{0} is no order: of the flags for its data only --order-id is for it, the rest comes from --file")]
    NotAnOrder(&'static str),
    #[error("the data is not JSON")]
    NotJson(#[from] serde_json::Error),
    #[error("{event} is not published, because it does not fit its schema:\n  {}", faults.join("\n  "))]
    Schema { event: EventKey, faults: Vec<String> },
    #[error("{0} is not published")]
    Rules(EventKey, #[source] DecodeError),
    #[error(transparent)]
    Contract(#[from] ContractError),
    #[error(transparent)]
    Settings(#[from] KafkaArgsError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("the event was not published; start the broker, or name another with --bootstrap-servers")]
    NoBroker(#[source] ReadError),
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    #[error("{topic}: {cause}")]
    Publish { topic: &'static str, cause: PublishError },
    #[error(
        "{servers} did not confirm within {seconds} s; the event may have arrived all the same, so publish it again for the \
         same order, {order_id}, with --event-id {event_id}"
    )]
    TimedOut { servers: String, seconds: u64, event_id: Uuid, order_id: SagaId },
    #[error(transparent)]
    Output(#[from] OutputError),
}

#[derive(Serialize)]
struct Published {
    event: &'static str,
    topic: &'static str,
    event_id: Uuid,
    order_id: SagaId,
}

impl Produce {
    pub(crate) fn run(self) -> Result<ExitCode, ProduceError> {
        let known = find(&self.event)?;
        let data = self.data(&known)?;
        let order_id = check(&known, &data)?;
        let event_id = self.event_id.unwrap_or_else(Uuid::now_v7);
        let config = self.kafka.config()?;
        reach(&config, known.event_type.topic)?;
        // The broker is there now, so this is the time at which the event is published.
        let outgoing = Outgoing {
            id: event_id,
            source: "saga-cli",
            saga_id: order_id,
            causation_id: None,
            time: Timestamp::now(),
            trace: &TraceContext::default(),
            null_compensation: false,
        };
        let record = envelope::seal(known.event_type, serde_json::to_vec(&data)?, &outgoing);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ProduceError::Runtime)?;
        runtime.block_on(self.publish(&config, &known, record, (event_id, order_id)))?;

        let topic = known.event_type.topic;
        let published = Published { event: known.event_type.name, topic, event_id, order_id };
        if self.json {
            print_json(&published)?;
        } else {
            let Published { event, topic, event_id, order_id } = published;
            print(&format!("event     {event}\ntopic     {topic}\nevent id  {event_id}\norder id  {order_id}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// From the file, or from the flags.
    fn data(&self, known: &TypedEvent) -> Result<Value, ProduceError> {
        if let Some(path) = &self.file {
            let failed = |cause| ProduceError::File { path: path.clone(), cause };
            let mut text = Vec::new();
            if path.as_os_str() == "-" {
                io::stdin().read_to_end(&mut text).map_err(failed)?;
            } else {
                text = fs::read(path).map_err(failed)?;
            }
            return Ok(serde_json::from_slice(&text)?);
        }
        let order_id = self.order_id.unwrap_or_else(Uuid::now_v7);
        if known.event_type.name == OrderCreated::NAME {
            return Ok(serde_json::to_value(self.order.clone().order(order_id))?);
        }
        if !self.order.is_empty() {
            return Err(ProduceError::NotAnOrder(known.event_type.name));
        }
        // Enough for a request; of any other event the schema says what is missing.
        Ok(json!({ "order_id": order_id }))
    }

    async fn publish(
        &self,
        config: &KafkaConfig,
        known: &TypedEvent,
        record: OutRecord,
        (event_id, order_id): (Uuid, SagaId),
    ) -> Result<(), ProduceError> {
        let producer = KafkaProducer::new(config)?;
        let patience = Duration::from_secs(self.timeout);
        let outcomes = tokio::time::timeout(patience, producer.publish(vec![record])).await.map_err(|_| {
            let servers = config.bootstrap_servers().to_owned();
            ProduceError::TimedOut { servers, seconds: self.timeout, event_id, order_id }
        })?;
        let topic = known.event_type.topic;
        outcomes.into_iter().collect::<Result<(), _>>().map_err(|cause| ProduceError::Publish { topic, cause })
    }
}

/// A broker that is away is found out within seconds, and before anything is on its way: a producer would wait for it.
fn reach(config: &KafkaConfig, topic: &str) -> Result<(), ProduceError> {
    match Reader::of_the_past(config)?.partitions(topic) {
        Err(error @ ReadError::Unreachable { .. }) => Err(ProduceError::NoBroker(error)),
        // What else is wrong with the topic is the producer's to say.
        _ => Ok(()),
    }
}

/// The event by its name, or by its name and version.
fn find(name: &str) -> Result<TypedEvent, ProduceError> {
    let mut events = typed_events();
    let is_named = |t: &TypedEvent| t.event_type.name == name || EventKey::from(t.event_type).to_string() == name;
    match events.iter().position(is_named) {
        Some(place) => Ok(events.swap_remove(place)),
        None => {
            let names: Vec<_> = events.iter().map(|t| t.event_type.name).collect();
            Err(ProduceError::UnknownEvent(name.to_owned(), names.join(", ")))
        }
    }
}

/// Checks what any consumer would: the schema first, which names each field, then the type's own rules.
fn check(known: &TypedEvent, data: &Value) -> Result<SagaId, ProduceError> {
    let event = EventKey::from(known.event_type);
    let faults = faults(known.event_type, data)?;
    if !faults.is_empty() {
        return Err(ProduceError::Schema { event, faults });
    }
    (known.read)(&serde_json::to_vec(data)?).map_err(|cause| ProduceError::Rules(event, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(event: &str, data: &Value) -> Result<SagaId, String> {
        check(&find(event).map_err(|e| e.to_string())?, data).map_err(|e| format!("{:#}", anyhow::Error::from(e)))
    }

    #[test]
    fn the_saga_is_the_order() {
        let order_id = Uuid::from_u128(7);
        let request = json!({ "order_id": order_id });
        assert_eq!(checked("order.cancellation_requested", &request), Ok(order_id.into()));
    }

    #[test]
    fn a_total_that_is_not_the_sum_names_its_field() {
        let order = json!({
            "order_id": Uuid::from_u128(7), "customer_id": Uuid::from_u128(8), "currency": "EUR",
            "items": [{"sku": "SKU-1", "quantity": 2, "unit_price_cents": 1999}], "total_cents": 1,
            "payment_method": "tok_visa",
            "shipping_address": {"name": "A", "street": "B", "city": "C", "postal_code": "D", "country": "DE"},
        });
        let message = checked("order.created/1", &order).unwrap_err();
        assert!(message.contains("total_cents"), "{message}");
    }

    #[test]
    fn an_unknown_event_is_answered_with_the_known_ones() {
        let message = checked("order.shipped", &json!({})).unwrap_err();
        assert!(message.contains("shipping.scheduled"), "{message}");
    }
}
