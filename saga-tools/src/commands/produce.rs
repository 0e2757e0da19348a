//! `saga produce`: publishes one event after checking it against its schema.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use saga_core::{
    SagaId,
    envelope::{self, Outgoing},
    event::{DecodeError, EventType},
    graph::{Choreography, EventKey},
    record::OutRecord,
    trace::TraceContext,
    transport::{Producer, PublishError},
};
use saga_kafka::{KafkaConfig, KafkaError, KafkaProducer, ReadError, Reader};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    kafka::{KafkaArgs, KafkaArgsError},
    output::{OutputError, print, print_json, say},
    schema::{SchemaError, schema_violations},
};

const EXAMPLES: &str = "\
Examples:
  saga produce trip.requested --data @trip.json
  generate-trip | saga produce trip.requested --data -
  saga produce trip.cancelled --saga-id 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001
  saga --flow http://localhost:8080 produce trip.requested --field traveller=ada --field nights=3";

/// Publish one event, checked against its schema
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Produce {
    /// An event of the flow, such as order.created or order.created/2
    event: String,
    #[command(flatten)]
    data: Data,
    /// The saga's id, which is the record's key [default: the one in the data, or a new one]
    #[arg(long, value_name = "UUID")]
    saga_id: Option<Uuid>,
    /// Publish under this ce_id [default: a new id]. Events with the same id are handled once
    #[arg(long, value_name = "UUID")]
    event_id: Option<Uuid>,
    /// Print the published event's ids as JSON
    #[arg(long)]
    json: bool,
    /// How many seconds to wait for the broker's confirmation
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    kafka: KafkaArgs,
}

/// The data of an event.
#[derive(Args, Clone, Debug, Default)]
pub struct Data {
    /// The data as JSON: @FILE, - for standard input, or the JSON text itself [default: {}]
    #[arg(long, value_name = "@FILE|-|JSON", allow_hyphen_values = true)]
    data: Option<String>,
    /// Set a field of the data; repeatable. A dot enters an object. The value is JSON, or else text
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    field: Vec<(String, Value)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProduceError {
    #[error("the flow has no event {0}; its events are: {1}")]
    UnknownEvent(String, String),
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("standard input")]
    Input(#[source] io::Error),
    #[error("the data is not JSON")]
    NotJson(#[from] serde_json::Error),
    #[error("--field {0}: {1}")]
    Field(String, &'static str),
    #[error("{field} of the data is {found}, and --saga-id says {given}")]
    TwoSagas { field: &'static str, found: String, given: Uuid },
    #[error("{event} is not published, because it violates its schema:\n  {}", faults.join("\n  "))]
    Schema { event: EventKey, faults: Vec<String> },
    #[error("{0} is not published")]
    Rules(EventKey, #[source] DecodeError),
    #[error(transparent)]
    Schemas(#[from] SchemaError),
    #[error(transparent)]
    Settings(#[from] KafkaArgsError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("the event was not published; start the broker, or name another with --bootstrap-servers")]
    NoBroker(#[source] ReadError),
    #[error("the async runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error("{topic}: {cause}")]
    Publish { topic: String, cause: PublishError },
    #[error(
        "{servers} did not confirm within {seconds} s; the event may have arrived all the same, so publish it again for the \
         same saga, {saga_id}, with --event-id {event_id}"
    )]
    TimedOut { servers: String, seconds: u64, event_id: Uuid, saga_id: SagaId },
    #[error(transparent)]
    Output(#[from] OutputError),
}

#[derive(Serialize)]
struct Published {
    event: &'static str,
    topic: String,
    event_id: Uuid,
    saga_id: SagaId,
    /// The saga's id again, under the field name that the data uses.
    #[serde(flatten)]
    named: BTreeMap<&'static str, SagaId>,
}

impl Produce {
    /// The event's name as given on the command line.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Sets the data unless the command line has some; `--field` applies to it.
    #[must_use]
    pub fn or_data(mut self, data: impl FnOnce() -> Value) -> Self {
        self.data.data.get_or_insert_with(|| data().to_string());
        self
    }

    /// Reads the data from this file unless the command line has some; `-` is standard input.
    #[must_use]
    pub fn or_file(mut self, file: &Path) -> Self {
        let file = if file.as_os_str() == "-" { "-".to_owned() } else { format!("@{}", file.display()) };
        self.data.data.get_or_insert(file);
        self
    }

    /// The saga's id, if given.
    pub fn saga(&self) -> Option<Uuid> {
        self.saga_id
    }

    /// Sets the saga's id unless the command line has one.
    #[must_use]
    pub fn or_saga(mut self, saga: Option<Uuid>) -> Self {
        self.saga_id = self.saga_id.or(saga);
        self
    }

    /// Publishes the event.
    ///
    /// # Errors
    /// When the flow has no such event, the data violates its schema or the rules of its type, or the broker does not confirm.
    pub fn run(self, flow: &Choreography) -> anyhow::Result<ExitCode> {
        Ok(self.publish_one(flow)?)
    }

    fn publish_one(self, flow: &Choreography) -> Result<ExitCode, ProduceError> {
        let event = find(flow, &self.event)?;
        let (data, saga_id) = of_saga(event, self.data.read()?, self.saga_id)?;
        let saga_id = check(event, &data)?.unwrap_or(saga_id);
        for field in unknown(event, &data) {
            say(&format!("the schema of {} has no field {field}: consumers will not see it", event.name));
        }
        let event_id = self.event_id.unwrap_or_else(Uuid::now_v7);
        let config = self.kafka.config()?;
        let namespace = self.kafka.namespace();
        reach(&config, &namespace.of(event.topic))?;
        // The broker has answered, so this is the time of publication.
        let outgoing = Outgoing {
            id: event_id,
            source: "saga-cli",
            saga_id,
            causation_id: None,
            time: Timestamp::now(),
            trace: &TraceContext::default(),
            null_compensation: false,
        };
        let record = namespace.place(envelope::seal(event, serde_json::to_vec(&data)?, &outgoing));
        let topic = record.topic.to_string();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ProduceError::Runtime)?;
        runtime.block_on(self.publish(&config, record, (event_id, saga_id)))?;

        let named = event.saga_field.map(|field| (field, saga_id)).into_iter().collect();
        let published = Published { event: event.name, topic, event_id, saga_id, named };
        if self.json {
            print_json(&published)?;
        } else {
            let Published { event, topic, event_id, saga_id, named: _ } = published;
            print(&format!("event     {event}\ntopic     {topic}\nevent id  {event_id}\nsaga id   {saga_id}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn publish(
        &self,
        config: &KafkaConfig,
        record: OutRecord,
        (event_id, saga_id): (Uuid, SagaId),
    ) -> Result<(), ProduceError> {
        let producer = KafkaProducer::new(config)?;
        let topic = record.topic.to_string();
        let patience = Duration::from_secs(self.timeout);
        let outcomes = tokio::time::timeout(patience, producer.publish(vec![record])).await.map_err(|_| {
            let servers = config.bootstrap_servers().to_owned();
            ProduceError::TimedOut { servers, seconds: self.timeout, event_id, saga_id }
        })?;
        outcomes.into_iter().collect::<Result<(), _>>().map_err(|cause| ProduceError::Publish { topic, cause })
    }
}

impl Data {
    fn read(&self) -> Result<Value, ProduceError> {
        let mut data: Value = match self.data.as_deref() {
            None => Value::Object(Map::new()),
            Some("-") => {
                let mut text = Vec::new();
                io::stdin().read_to_end(&mut text).map_err(ProduceError::Input)?;
                serde_json::from_slice(&text)?
            }
            Some(text) => match text.strip_prefix('@') {
                Some(path) => {
                    let failed = |cause| ProduceError::File { path: path.into(), cause };
                    serde_json::from_slice(&fs::read(path).map_err(failed)?)?
                }
                None => serde_json::from_str(text)?,
            },
        };
        for (name, value) in &self.field {
            set(&mut data, name, value.clone())?;
        }
        Ok(data)
    }
}

/// `name=value`.
fn field(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write name=value")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// Sets a field and creates the objects on the way to it.
fn set(data: &mut Value, name: &str, value: Value) -> Result<(), ProduceError> {
    let mut here = data;
    for part in name.split('.') {
        let failed = |why| ProduceError::Field(name.to_owned(), why);
        here = match here {
            Value::Object(fields) => fields.entry(part).or_insert_with(|| Value::Object(Map::new())),
            Value::Array(items) => {
                let place = part.parse::<usize>().map_err(|_| failed("a list is entered by a number"))?;
                items.get_mut(place).ok_or_else(|| failed("the list is shorter"))?
            }
            _ => return Err(failed("it leads into what is neither an object nor a list")),
        };
    }
    *here = value;
    Ok(())
}

/// The data with the saga's id in it, and that id.
fn of_saga(event: EventType, mut data: Value, given: Option<Uuid>) -> Result<(Value, SagaId), ProduceError> {
    let new = || given.unwrap_or_else(Uuid::now_v7);
    let (Some(field), Value::Object(fields)) = (event.saga_field, &mut data) else {
        return Ok((data, new().into()));
    };
    let found = fields.entry(field).or_insert_with(|| new().to_string().into());
    // The schema check reports an invalid id.
    let saga = found.as_str().and_then(|text| text.parse::<Uuid>().ok());
    match given {
        Some(given) if saga.is_some_and(|saga| saga != given) => {
            Err(ProduceError::TwoSagas { field, found: found.to_string(), given })
        }
        _ => Ok((data, saga.unwrap_or_else(new).into())),
    }
}

/// The fields of the data that the schema does not name.
fn unknown(event: EventType, data: &Value) -> Vec<String> {
    let schema = event.schema();
    let (Some(known), Some(fields)) = (schema["properties"].as_object(), data.as_object()) else { return Vec::new() };
    fields.keys().filter(|field| !known.contains_key(*field)).cloned().collect()
}

/// Fails within seconds when the broker is unreachable; a producer would wait for its delivery timeout.
fn reach(config: &KafkaConfig, topic: &str) -> Result<(), ProduceError> {
    match Reader::of_the_past(config)?.partitions(topic) {
        Err(error @ ReadError::Unreachable { .. }) => Err(ProduceError::NoBroker(error)),
        // The producer reports anything else that is wrong with the topic.
        _ => Ok(()),
    }
}

/// Finds an event by its name (the newest version) or by its name and version.
fn find(flow: &Choreography, name: &str) -> Result<EventType, ProduceError> {
    let named = flow.events_named(name).last();
    let exact = || flow.events().find(|(key, _)| key.to_string() == name);
    named.or_else(exact).map(|(_, node)| node.event).ok_or_else(|| {
        let names: Vec<_> = flow.events().map(|(key, _)| key.to_string()).collect();
        ProduceError::UnknownEvent(name.to_owned(), names.join(", "))
    })
}

/// Checks the data as a consumer does: first the schema, which names each field, then the type's own rules, if this
/// program knows the type.
fn check(event: EventType, data: &Value) -> Result<Option<SagaId>, ProduceError> {
    let key = EventKey::from(event);
    let faults = schema_violations(event, data)?;
    if !faults.is_empty() {
        return Err(ProduceError::Schema { event: key, faults });
    }
    event.check(&serde_json::to_vec(data)?).map_err(|cause| ProduceError::Rules(key, cause))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::order_flow;

    fn data(given: Option<&str>, fields: &[&str]) -> Result<Value, String> {
        let field = fields.iter().map(|text| field(text)).collect::<Result<_, _>>()?;
        Data { data: given.map(str::to_owned), field }.read().map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_json_or_text_and_lead_into_objects_and_lists() {
        assert_eq!(
            data(None, &["name=Ada", "nights=3", "to.city=Turin"]),
            Ok(json!({"name": "Ada", "nights": 3, "to": {"city": "Turin"}}))
        );
        let order = r#"{"items": [{"sku": "A"}]}"#;
        assert_eq!(data(Some(order), &["items.0.sku=B"]), Ok(json!({"items": [{"sku": "B"}]})));
        assert!(data(Some(order), &["items.1.sku=B"]).unwrap_err().contains("the list is shorter"));
        assert!(data(Some("[1]"), &["name=Ada"]).unwrap_err().contains("a list is entered by a number"));
        assert!(data(None, &["name"]).unwrap_err().contains("name=value"));
        assert_eq!(data(Some("{"), &[]).unwrap_err(), "the data is not JSON");
    }

    #[test]
    fn the_saga_is_that_of_the_data_or_is_put_into_it() {
        let event = find(&order_flow(), "order.cancellation_requested").unwrap();
        let saga = Uuid::from_u128(7);
        let with = json!({"order_id": saga});
        assert_eq!(of_saga(event, with.clone(), None).unwrap(), (with.clone(), saga.into()));
        assert_eq!(of_saga(event, json!({}), Some(saga)).unwrap(), (with.clone(), saga.into()));
        let other = of_saga(event, with, Some(Uuid::from_u128(8))).unwrap_err().to_string();
        assert!(other.contains("--saga-id says 00000000-0000-0000-0000-000000000008"), "{other}");
        assert!(check(event, &json!({})).unwrap_err().to_string().contains("order_id"));
    }

    #[test]
    fn an_unknown_event_is_answered_with_the_known_ones() {
        let message = find(&order_flow(), "order.shipped").unwrap_err().to_string();
        assert!(message.contains("shipping.scheduled/1"), "{message}");
        assert!(find(&order_flow(), "order.created/1").is_ok() && find(&order_flow(), "order.created/2").is_err());
    }
}
