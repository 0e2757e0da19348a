//! `saga --flow` with another flow, on a broker shared with the order flow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use jiff::Timestamp;
use saga_core::{
    Event, Never, Outcome, Participant, SagaId, Step, StepResult,
    envelope::{Outgoing, seal},
    event::EventType,
    graph::Choreography,
    handler::Cx,
    record::OutRecord,
    testing::MemoryStore,
    trace::TraceContext,
    transport::Producer as _,
};
use saga_kafka::{EmbeddedBroker, KafkaProducer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

macro_rules! events {
    ($($name:ident = $type:literal on $topic:literal { $($field:ident: $of:ty),* })*) => {$(
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
        #[event(name = $type, topic = $topic, saga = "trip_id")]
        struct $name { trip_id: Uuid $(, $field: $of)* }
    )*};
}

events! {
    Requested = "trip.requested" on "trip.events" { traveller: String, nights: u32 }
    Reserved = "flight.reserved" on "flight.events" {}
    // The order flow has an event of this name on this topic, too.
    Charged = "payment.charged" on "payment.events" {}
    Completed = "trip.completed" on "trip.events" {}
}

async fn reserve(_: &mut Cx<'_, MemoryStore>, trip: Requested) -> StepResult<Reserved, Never> {
    Ok(Outcome::Success(Reserved { trip_id: trip.trip_id }))
}

async fn charge(_: &mut Cx<'_, MemoryStore>, flight: Reserved) -> StepResult<Charged, Never> {
    Ok(Outcome::Success(Charged { trip_id: flight.trip_id }))
}

async fn complete(_: &mut Cx<'_, MemoryStore>, paid: Charged) -> StepResult<Completed, Never> {
    Ok(Outcome::Success(Completed { trip_id: paid.trip_id }))
}

fn travel() -> Choreography {
    let trip = Participant::named("trip").publishes::<Requested>().step(Step::new("complete", complete));
    Choreography::of(vec![
        trip.completes_with::<Completed>().declaration(),
        Participant::named("flight").step(Step::new("reserve", reserve)).declaration(),
        Participant::named("payment").step(Step::new("charge", charge)).declaration(),
    ])
}

struct World {
    broker: EmbeddedBroker,
    dir: PathBuf,
}

impl World {
    /// With one file for each participant.
    fn start() -> Self {
        let flow = travel();
        let topics = ["order", "inventory", "payment", "shipping", "trip", "flight"];
        let topics: Vec<String> =
            topics.iter().flat_map(|name| [format!("{name}.events"), format!("{name}.dlq")]).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let broker = EmbeddedBroker::start(&topics, 3).unwrap();
        let dir = std::env::temp_dir().join(format!("saga-travel-{}", Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        for declaration in flow.declarations() {
            fs::write(dir.join(format!("{}.json", declaration.participant)), declaration.to_json().to_string())
                .unwrap();
        }
        Self { broker, dir }
    }

    fn saga(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saga"));
        command.args(args).env("KAFKA_BOOTSTRAP_SERVERS", self.broker.bootstrap_servers()).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn of_travel(&self, args: &[&str]) -> Output {
        let dir = self.dir.display().to_string();
        self.saga(&[&["--flow", &dir], args].concat())
    }

    async fn publish<E: Event>(&self, source: &str, cause: Option<Uuid>, event: &E) -> Uuid {
        let id = Uuid::now_v7();
        let cause = cause.map(|id| id.to_string());
        let outgoing = Outgoing {
            id,
            source,
            saga_id: Event::saga_id(event),
            causation_id: cause.as_deref(),
            time: Timestamp::now(),
            trace: &TraceContext::default(),
            null_compensation: false,
        };
        let record: OutRecord = seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing);
        let producer = KafkaProducer::new(&self.broker.config()).unwrap();
        assert_eq!(producer.publish(vec![record]).await, [Ok(())]);
        id
    }

    /// A trip that has been charged and not completed.
    async fn charged(&self) -> SagaId {
        let trip_id = Uuid::new_v4();
        let requested = Requested { trip_id, traveller: "Ada".to_owned(), nights: 2 };
        let id = self.publish("web", None, &requested).await;
        let id = self.publish("flight", Some(id), &Reserved { trip_id }).await;
        self.publish("payment", Some(id), &Charged { trip_id }).await;
        trip_id.into()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_flow_is_checked_drawn_and_inspected() {
    let world = World::start();
    let (code, out, err) = text(&world.of_travel(&["check"]));
    assert!(code == Some(0) && out.contains("no findings"), "{out}{err}");
    let (code, out, _) = text(&world.of_travel(&["graph"]));
    assert!(code == Some(0) && out.contains("flight.reserved") && !out.contains("inventory"), "{out}");
    let trip = world.charged().await.to_string();
    let (code, out, err) = text(&world.of_travel(&["inspect", &trip]));
    assert_eq!(code, Some(0), "{err}");
    for said in ["charge, on flight.reserved", "expected   trip complete: trip.completed", "requested"] {
        assert!(out.contains(said), "{said}\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_is_not_explained_with_another_flow() {
    let world = World::start();
    let trip = world.charged().await.to_string();
    let (code, out, err) = text(&world.saga(&["inspect", &trip]));
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("of another flow") && !out.contains("shipping"), "{out}");
    assert!(err.contains("does not know payment.charged") && err.contains("--flow"), "{err}");
    let (_, out, _) = text(&world.saga(&["inspect", &trip, "--json"]));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["status"], &report["expected"]), (&"unknown".into(), &Value::Array(vec![])), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_another_flow_is_built_from_fields_and_checked() {
    let world = World::start();
    let fields = ["--field", "traveller=Ada", "--field", "nights=3"];
    let (code, out, err) = text(&world.of_travel(&[&["produce", "trip.requested", "--json"], &fields[..]].concat()));
    assert_eq!(code, Some(0), "{err}");
    let published: Value = serde_json::from_str(&out).unwrap();
    let trip = published["saga_id"].as_str().unwrap();
    let (code, out, err) = text(&world.of_travel(&["inspect", trip, "--data"]));
    assert!(code == Some(0) && out.contains(r#""nights":3"#) && out.contains(trip), "{out}{err}");
    let (code, _, err) = text(&world.of_travel(&["produce", "trip.requested", "--field", "nights=many"]));
    assert!(code == Some(1) && err.contains("nights: ") && err.contains("\"traveller\" is a required"), "{err}");
    let (code, _, err) = text(&world.of_travel(&["produce", "order.created"]));
    assert!(code == Some(1) && err.contains("trip.requested/1"), "{err}");
    let (code, _, err) = text(&world.of_travel(&["demo"]));
    assert!(code == Some(1) && err.contains("take no --flow"), "{err}");
}
