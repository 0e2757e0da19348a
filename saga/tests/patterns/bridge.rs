//! A bridge between two flows: a saga of one starts a saga of the other, and hears of its end.

use saga::{kafka::Publisher, prelude::*};

#[saga_event(name = "trip.booked", topic = "trip.events", saga = "trip_id")]
struct TripBooked {
    trip_id: Uuid,
}

#[saga_event(name = "trip.insured", topic = "trip.events", saga = "trip_id")]
struct TripInsured {
    trip_id: Uuid,
}

/// The start of the other flow, which knows the trip only as a number to give back.
#[saga_event(name = "policy.requested", topic = "policy.events", saga = "policy_id")]
struct PolicyRequested {
    policy_id: Uuid,
    reference: Uuid,
}

#[saga_event(name = "policy.issued", topic = "policy.events", saga = "policy_id")]
struct PolicyIssued {
    policy_id: Uuid,
    reference: Uuid,
}

fn lost(error: saga::kafka::PublisherError) -> StepError {
    StepError::transient("the other flow was not reached").caused_by(error)
}

async fn note(_: &mut Cx<'_, Db>, _: TripBooked, (): ()) -> StepResult<Never> {
    Ok(Outcome::Quiet)
}

async fn note_issued(_: &mut Cx<'_, Db>, _: PolicyIssued, (): ()) -> StepResult<Never> {
    Ok(Outcome::Quiet)
}

/// In the trip's flow: starts the other saga. The key of the effect is its id, and that of its event: however often this is
/// called, it starts once.
fn to_insurance(publisher: Publisher) -> Participant<Db> {
    let start = async move |call: &Call, trip: &TripBooked| {
        let policy = PolicyRequested { policy_id: call.idempotency_key, reference: trip.trip_id };
        publisher.publish_as(call.idempotency_key, &policy, &call.trace).await.map_err(lost)
    };
    Participant::named("to_insurance").publishes::<TripInsured>().step(Step::with_effect("start", start, note))
}

/// In the other flow: tells the trip of its end.
fn from_insurance(publisher: Publisher) -> Participant<Db> {
    let tell = async move |call: &Call, policy: &PolicyIssued| {
        let insured = TripInsured { trip_id: policy.reference };
        publisher.publish_as(call.idempotency_key, &insured, &call.trace).await.map_err(lost)
    };
    Participant::named("from_insurance").publishes::<PolicyRequested>().step(Step::with_effect(
        "tell",
        tell,
        note_issued,
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_of_one_flow_starts_one_of_the_other_and_hears_of_it() {
    use saga::{
        envelope,
        kafka::{EmbeddedBroker, KafkaConsumer},
        service::Config,
        transport::{Consumer, Signal},
    };

    async fn issue(_: &mut Cx<'_, Db>, policy: PolicyRequested) -> StepResult<PolicyIssued> {
        Ok(Outcome::Success(PolicyIssued { policy_id: policy.policy_id, reference: policy.reference }))
    }
    let topics =
        ["trip.events", "policy.events", "to_insurance.dlq", "from_insurance.dlq", "issuer.dlq"].map(str::to_owned);
    let broker = EmbeddedBroker::start(&topics, 1).unwrap();
    let publisher = Publisher::new(&broker.config(), "test").unwrap();
    let issuer = Participant::named("issuer").step(Step::new("issue", issue));
    for participant in [to_insurance(publisher.clone()), from_insurance(publisher.clone()), issuer] {
        let any_port = "127.0.0.1:0".parse().unwrap();
        let config = Config::new(any_port, "sqlite::memory:".parse().unwrap(), broker.config(), NoArgs {});
        tokio::spawn(saga::serve(participant).run_until(config, std::future::pending()));
    }
    let trip_id = Uuid::new_v4();
    publisher.publish(&TripBooked { trip_id }).await.unwrap();
    let mut reader = KafkaConsumer::subscribe(&broker.config(), "test", &topics).unwrap();
    loop {
        let Signal::Records(records) = reader.next(10).await else { continue };
        let is_insured = |record| envelope::open(record).is_ok_and(|event| event.event_type() == TripInsured::NAME);
        if let Some(record) = records.iter().find(|record| is_insured(record)) {
            assert_eq!(record.saga_id(), Some(trip_id.into()));
            break;
        }
    }
}
