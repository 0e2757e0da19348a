//! Records of a saga as services write them, for tests.

use jiff::{SignedDuration, Timestamp};
use saga_core::{
    SagaId,
    dead_letter::{self, Poison, Reason},
    envelope::{Outgoing, header, seal},
    graph::Choreography,
    record::{Header, OutRecord, Record},
    trace::TraceContext,
};
use saga_kafka::Stored;
use serde_json::json;
use uuid::Uuid;

use crate::observed_record::ObservedRecord;

pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The order flow, read from its JSON.
pub(crate) fn order_flow() -> Choreography {
    Choreography::from_json(include_bytes!("../../schemas/choreography.json")).unwrap()
}

/// The order flow with a mail that nothing waits for, and a payment that asks for a receipt at the same time as it charges.
pub(crate) fn with_mail() -> Choreography {
    let mut flow = order_flow().to_json();
    let mail = json!({"name": "mail", "optional": true, "steps": [
        {"name": "tell", "triggers": ["payment.charged/1"], "success": "mail.sent/1"},
        {"name": "file", "triggers": ["receipt.wanted/1"]},
    ]});
    flow["participants"].as_array_mut().unwrap().push(mail);
    for name in ["mail.sent", "receipt.wanted"] {
        let event = json!({"name": name, "version": 1, "topic": "mail.events", "schema": {"type": "object"}});
        flow["events"].as_array_mut().unwrap().push(event);
    }
    let participants = flow["participants"].as_array_mut().unwrap();
    let charge = &mut participants.iter_mut().find(|p| p["name"] == "payment").unwrap()["steps"][0];
    charge.as_object_mut().unwrap().remove("success");
    charge["successes"] = json!([["payment.charged/1", "receipt.wanted/1"]]);
    let flow = Choreography::from_json(flow.to_string().as_bytes()).unwrap();
    assert_eq!(flow.check(), []);
    flow
}

/// A travel flow: flight, hotel and car are reserved in parallel, joined and paid, or released in parallel and joined.
pub(crate) fn travel_flow() -> Choreography {
    let branch = |name: &str| {
        let event = |what: &str| format!("{name}.{what}/1");
        json!({"name": name, "steps": [{
            "name": "reserve", "triggers": ["trip.requested/1"],
            "success": event("reserved"), "refusal": event("rejected"),
            "compensation": {
                "name": "release", "event": event("released"),
                "triggers": ["payment.declined/1", "payment.expired/1", "payment.refunded/1"],
            },
        }]})
    };
    let branches = ["flight", "hotel", "car"];
    let all_of = |whats: &[&str]| {
        let part = |name: &&str| whats.iter().map(|what| format!("{name}.{what}/1")).collect::<Vec<_>>();
        branches.iter().map(part).collect::<Vec<_>>()
    };
    let trip = json!({"name": "trip",
        "publishes": ["trip.requested/1", "trip.cancellation_requested/1"],
        "ends": [
            {"event": "trip.confirmed/1", "ending": "completed"},
            {"event": "trip.cancelled/1", "ending": "compensated"},
        ],
        "steps": [
            {"name": "register", "triggers": ["trip.requested/1"],
                "saga_deadline": {"after_ms": 1_800_000, "event": "trip.cancellation_requested/1"}},
            {"name": "confirm", "triggers": ["payment.charged/1"], "success": "trip.confirmed/1", "pivot": true},
            {"name": "cancel", "triggers": [], "all_of": all_of(&["rejected", "released"]), "success": "trip.cancelled/1"},
        ],
    });
    let payment = json!({"name": "payment", "steps": [{
        "name": "charge", "triggers": [], "all_of": all_of(&["reserved"]),
        "success": "payment.charged/1", "refusal": "payment.declined/1",
        "arrivals_deadline": {"after_ms": 300_000, "event": "payment.expired/1"},
        "compensation": {
            "name": "refund", "event": "payment.refunded/1",
            "triggers": ["flight.rejected/1", "hotel.rejected/1", "car.rejected/1", "trip.cancellation_requested/1"],
        },
    }]});
    let mut names = vec!["trip.requested", "trip.cancellation_requested", "trip.confirmed", "trip.cancelled"];
    names.extend(["payment.charged", "payment.declined", "payment.expired", "payment.refunded"]);
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    for branch in branches {
        names.extend(["reserved", "rejected", "released"].map(|what| format!("{branch}.{what}")));
    }
    let event = |name: String| {
        let topic = format!("{}.events", name.split('.').next().unwrap_or_default());
        json!({"name": name, "version": 1, "topic": topic, "schema": {"type": "object"}})
    };
    let flow = json!({
        "format": "saga.choreography/1",
        "participants": [trip, branch("flight"), branch("hotel"), branch("car"), payment],
        "events": names.into_iter().map(event).collect::<Vec<_>>(),
    });
    let flow = Choreography::from_json(flow.to_string().as_bytes()).unwrap();
    assert_eq!(flow.check(), []);
    flow
}

/// A saga and its records.
pub(crate) struct Written {
    pub(crate) flow: Choreography,
    pub(crate) saga: Uuid,
    pub(crate) observed: Vec<ObservedRecord>,
    records: Vec<(String, Record)>,
}

pub(crate) fn time(ms: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(1_700_000_000_000 + ms)
}

impl Written {
    pub(crate) fn new(saga: u128) -> Self {
        Self::of(order_flow(), saga)
    }

    /// A saga of this flow, without records.
    pub(crate) fn of(flow: Choreography, saga: u128) -> Self {
        Self { flow, saga: Uuid::from_u128(saga), observed: Vec::new(), records: Vec::new() }
    }

    /// Events a tenth of a second apart, each caused by the one before.
    pub(crate) fn chain(saga: u128, kinds: &[&str]) -> Self {
        let mut written = Self::new(saga);
        for (place, kind) in kinds.iter().enumerate() {
            let cause = place.checked_sub(1).map(|before| kinds[before]);
            written.event(kind, cause, i64::try_from(place).unwrap() * 100);
        }
        written
    }

    fn sealed(&self, kind: &str, cause: Option<&str>, ms: i64, null: bool) -> OutRecord {
        let (_, node) = self.flow.events_named(kind).next().unwrap();
        let cause = cause.map(|cause| self.id(cause).to_string());
        let trace = TraceContext { traceparent: Some(format!("00-{TRACE}-b7ad6b7169203331-01")), tracestate: None };
        let outgoing = Outgoing {
            id: self.id(kind),
            source: kind.split('.').next().unwrap(),
            saga_id: SagaId::from(self.saga),
            causation_id: cause.as_deref(),
            time: time(ms),
            trace: &trace,
            null_compensation: null,
        };
        let data = json!({"order_id": self.saga, "reason": "out_of_stock", "name": "Ada Lovelace"});
        seal(node.event, serde_json::to_vec(&data).unwrap(), &outgoing)
    }

    fn id(&self, kind: &str) -> Uuid {
        Uuid::new_v5(&self.saga, kind.as_bytes())
    }

    fn write(&mut self, name: &str, record: OutRecord, ms: i64) {
        let offset = i64::try_from(self.observed.len()).unwrap();
        let OutRecord { topic, key, value, headers } = record;
        let record = Record { topic: topic.into_owned().into(), partition: 3, offset, key, value, headers };
        self.records.push((name.to_owned(), record.clone()));
        self.observed.push(ObservedRecord::of(Stored { record, written: Some(time(ms)) }));
    }

    /// The observed records with their data.
    pub(crate) fn with_data(&self) -> Vec<ObservedRecord> {
        let stored =
            self.records.iter().zip(&self.observed).map(|((_, record), observed)| (record.clone(), observed.written));
        stored.map(|(record, written)| ObservedRecord::with_value(Stored { record, written })).collect()
    }

    pub(crate) fn event(&mut self, kind: &str, cause: Option<&str>, ms: i64) {
        let record = self.sealed(kind, cause, ms, false);
        self.write(kind, record, ms);
    }

    pub(crate) fn null(&mut self, kind: &str, cause: Option<&str>, ms: i64) {
        let record = self.sealed(kind, cause, ms, true);
        self.write(kind, record, ms);
    }

    /// Writes the event of a compensation that failed for good, or one that follows from it.
    pub(crate) fn partly(&mut self, kind: &str, cause: Option<&str>, ms: i64, failed: bool) {
        let mut record = self.sealed(kind, cause, ms, false);
        if failed {
            record.headers.push(Header::text(header::COMPENSATION_FAILED, "true"));
        }
        record.headers.push(Header::text(header::PARTLY_COMPENSATED, "true"));
        self.write(kind, record, ms);
    }

    /// Writes the same event a second time.
    pub(crate) fn duplicate(&mut self, kind: &str, cause: Option<&str>, happened: i64, ms: i64) {
        let record = self.sealed(kind, cause, happened, false);
        self.write(kind, record, ms);
    }

    /// Writes an event that has only its type.
    pub(crate) fn bare(&mut self, kind: &str, ms: i64) {
        let mut record = self.sealed(kind, None, ms, false);
        record.headers.retain(|h| h.is(header::TYPE));
        self.write(kind, record, ms);
    }

    /// Writes an event that the flow does not know.
    pub(crate) fn foreign(&mut self, kind: &str, ms: i64) {
        let mut record = self.sealed("order.created", None, ms, false);
        record.headers.retain(|h| !h.is(header::TYPE) && !h.is(header::ID));
        record.headers.push(Header::text(header::TYPE, kind.to_owned()));
        self.write(kind, record, ms);
    }

    /// Writes an event whose data is cut off.
    pub(crate) fn cut_off(&mut self, kind: &str, ms: i64) {
        let mut record = self.sealed(kind, None, ms, false);
        record.value.as_mut().unwrap().truncate(10);
        self.write(kind, record, ms);
    }

    /// Writes a record that no consumer can read.
    pub(crate) fn poison(&mut self, ms: i64) {
        let mut record = self.sealed("order.created", None, ms, false);
        record.headers.retain(|h| !h.is(header::TYPE));
        self.write("poison", record, ms);
    }

    /// Writes the participant's dead letter for the record of this name.
    pub(crate) fn dead_letter(&mut self, participant: &str, name: &str, ms: i64) {
        let (_, record) = self.records.iter().find(|(known, _)| known == name).unwrap();
        let poison = Poison::new(Reason::RetriesExhausted, "the gateway does not answer");
        let dead_letter = dead_letter::letter(participant, record, &poison, 10, time(ms - 50));
        self.write("dead letter", dead_letter, ms);
    }

    /// Writes a dead letter with an arbitrary reason.
    pub(crate) fn forged_dead_letter(&mut self, participant: &str, name: &str, reason: &str, ms: i64) {
        let (_, record) = self.records.iter().find(|(known, _)| known == name).unwrap();
        let poison = Poison::new(Reason::RetriesExhausted, "");
        let mut dead_letter = dead_letter::letter(participant, record, &poison, 10, time(ms - 50));
        dead_letter.headers.retain(|h| !h.is(dead_letter::header::REASON));
        dead_letter.headers.push(Header::text(dead_letter::header::REASON, reason.to_owned()));
        self.write("dead letter", dead_letter, ms);
    }
}
