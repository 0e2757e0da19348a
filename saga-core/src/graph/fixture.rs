//! The order flow and a travel flow, declared by hand, for the tests of the graph.

pub(crate) mod travel;

use std::time::Duration;

use crate::{
    event::EventType,
    graph::{
        Choreography, CompensationSpec, DeadlineSpec, Declaration, Emits, End, Ending, EventKey, StepSpec, Triggers,
    },
};

/// An event on the topic of the participant that its name starts with.
pub(crate) fn event(name: &'static str) -> EventType {
    let topic = match name.split('.').next() {
        Some("order") => "order.events",
        Some("inventory") => "inventory.events",
        Some("payment") => "payment.events",
        Some("trip") => "trip.events",
        Some("flight") => "flight.events",
        Some("hotel") => "hotel.events",
        Some("car") => "car.events",
        _ => "shipping.events",
    };
    with_schema(name, topic, serde_json::json!({"type": "object"}))
}

pub(crate) fn with_schema(name: &'static str, topic: &'static str, schema: serde_json::Value) -> EventType {
    EventType::declared((name, 1), topic, Box::leak(Box::new(schema)))
}

pub(crate) fn key(name: &'static str) -> EventKey {
    event(name).into()
}

pub(crate) fn events(names: &[&'static str]) -> Vec<EventType> {
    names.iter().map(|name| event(name)).collect()
}

/// Triggers of which each part has to arrive.
pub(crate) fn all_of(parts: &[&[&'static str]]) -> Triggers {
    Triggers::all_of(parts.iter().map(|part| events(part)))
}

/// A step that publishes nothing yet.
pub(crate) fn step(name: &'static str, triggers: &[&'static str]) -> StepSpec {
    let triggers = events(triggers).into();
    StepSpec {
        name,
        triggers,
        success: Emits::nothing(),
        refusal: Emits::nothing(),
        compensation: None,
        deadline: None,
        saga_deadline: None,
        arrivals_deadline: None,
        rounds: None,
        effect: false,
        pivot: false,
        until_it_succeeds: false,
    }
}

pub(crate) fn compensation(
    name: &'static str,
    triggers: &[&'static str],
    done: &'static str,
) -> Option<CompensationSpec> {
    Some(CompensationSpec {
        name,
        triggers: events(triggers).into(),
        event: event(done),
        effect: false,
        best_effort: false,
    })
}

pub(crate) fn deadline(name: &'static str) -> Option<DeadlineSpec> {
    Some(DeadlineSpec { after: Duration::from_secs(300), event: event(name) })
}

pub(crate) fn participant(participant: &'static str, steps: Vec<StepSpec>) -> Declaration {
    Declaration { participant, steps, publishes: Vec::new(), ends: Vec::new(), accepted: Vec::new(), optional: false }
}

pub(crate) fn order() -> Declaration {
    let register =
        StepSpec { deadline: deadline("order.cancellation_requested"), ..step("register", &["order.created"]) };
    let confirm =
        StepSpec { success: event("order.confirmed").into(), pivot: true, ..step("confirm", &["shipping.scheduled"]) };
    let cancel = StepSpec {
        success: event("order.cancelled").into(),
        ..step("cancel", &["inventory.rejected", "inventory.released"])
    };
    Declaration {
        publishes: events(&["order.created", "order.cancellation_requested"]),
        ends: vec![
            End { event: event("order.confirmed"), ending: Ending::Completed },
            End { event: event("order.cancelled"), ending: Ending::Compensated },
        ],
        ..participant("order", vec![register, confirm, cancel])
    }
}

pub(crate) fn inventory() -> Declaration {
    let reserve = StepSpec {
        success: event("inventory.reserved").into(),
        refusal: event("inventory.rejected").into(),
        compensation: compensation("release", &["payment.declined", "payment.refunded"], "inventory.released"),
        ..step("reserve", &["order.created"])
    };
    participant("inventory", vec![reserve])
}

pub(crate) fn payment() -> Declaration {
    let refund = compensation("refund", &["shipping.rejected", "shipping.cancelled"], "payment.refunded");
    let charge = StepSpec {
        success: event("payment.charged").into(),
        refusal: event("payment.declined").into(),
        compensation: refund.map(|refund| CompensationSpec { effect: true, ..refund }),
        effect: true,
        ..step("charge", &["inventory.reserved"])
    };
    participant("payment", vec![charge])
}

pub(crate) fn shipping() -> Declaration {
    let schedule = StepSpec {
        success: event("shipping.scheduled").into(),
        refusal: event("shipping.rejected").into(),
        compensation: compensation("cancel", &["order.cancellation_requested"], "shipping.cancelled"),
        ..step("schedule", &["payment.charged"])
    };
    participant("shipping", vec![schedule])
}

pub(crate) fn order_flow() -> Choreography {
    Choreography::of(vec![order(), inventory(), payment(), shipping()])
}
