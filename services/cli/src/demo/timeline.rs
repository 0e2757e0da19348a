//! The timeline of one order: its events and waits.

use std::collections::BTreeMap;

use saga_core::graph::{Choreography, How, NodeKind};
use serde::Serialize;
use uuid::Uuid;

use super::{
    customers::{PlacedOrder, PlacedVia},
    database_state::Charge,
    scenario::Scenario,
};
use saga_tools::text::{count, duration, money};
use saga_tools::{event::Event, producing_step::producing_step};

/// One entry of a timeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct TimelineEntry {
    /// Milliseconds since the order was created; none for a wait.
    pub(crate) at_ms: Option<f64>,
    pub(crate) participant: String,
    /// None for a wait.
    pub(crate) event: Option<String>,
    pub(crate) null_compensation: bool,
    pub(crate) note: String,
}

/// The timeline of one order.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Timeline {
    #[serde(rename = "ending")]
    pub(crate) scenario: Scenario,
    pub(crate) order_id: Uuid,
    pub(crate) placed: PlacedVia,
    pub(crate) about: String,
    pub(crate) entries: Vec<TimelineEntry>,
}

/// Builds the timeline of an order from its events.
pub(crate) fn timeline(flow: &Choreography, order: &PlacedOrder, events: &[&Event], charges: &[Charge]) -> Timeline {
    let start = events.first().map(|event| event.at).unwrap_or_default();
    let since = |at: jiff::Timestamp| at.duration_since(start).as_secs_f64() * 1000.0;
    let calls: i64 = charges.iter().map(|charge| charge.calls).sum();
    let mut entries: Vec<TimelineEntry> = Vec::new();
    let mut before = 0.0;
    for event in events {
        let at = since(event.at);
        let wait = |participant: &str, note: String| TimelineEntry {
            at_ms: None,
            participant: participant.to_owned(),
            event: None,
            null_compensation: false,
            note,
        };
        if event.kind == "payment.charged" || event.kind == "payment.declined" {
            if calls > 1 {
                let parked = duration(at - before);
                let outcome = if event.kind == "payment.declined" { " without success" } else { "" };
                let note = format!("gateway called {calls} times{outcome}, saga parked meanwhile: {parked}");
                entries.push(wait("payment", note));
            }
        } else if order.scenario == Scenario::PastDeadline && event.kind == "order.cancellation_requested" {
            entries.push(wait("shipping", "is stopped and does not read payment.charged".to_owned()));
        }
        entries.push(TimelineEntry {
            at_ms: Some(at),
            participant: event.source.clone(),
            event: Some(event.kind.clone()),
            null_compensation: event.null,
            note: note(flow, order, event),
        });
        before = at;
    }
    let items = order.event.items.iter().map(|item| format!("{} {}", item.quantity, item.sku));
    let items = items.collect::<Vec<_>>().join(" + ");
    let OrderCreatedShort { total, card, country } = OrderCreatedShort::of(order);
    let about = format!("{items}, {total} EUR, {card}, to {country}");
    Timeline { scenario: order.scenario, order_id: order.id, placed: order.via, about, entries }
}

/// The parts of an order that are shown.
struct OrderCreatedShort<'a> {
    total: String,
    card: &'a str,
    country: &'a str,
}

impl<'a> OrderCreatedShort<'a> {
    fn of(order: &'a PlacedOrder) -> Self {
        let total = money(order.event.total_cents);
        Self { total, card: &order.event.payment_method, country: &order.event.shipping_address.country }
    }
}

/// What the event means, from its declaration.
fn note(flow: &Choreography, order: &PlacedOrder, event: &Event) -> String {
    let reason = event.reason.clone().unwrap_or_default();
    match producing_step(flow, event, None) {
        Some((_, How::Refusal)) => format!("refused: {reason}"),
        Some(_) if event.null => "nothing to compensate".to_owned(),
        Some((node, How::Compensated)) if node.kind == NodeKind::Compensation => format!("compensates {}", node.step),
        Some((_, How::Deadline)) if reason == "deadline" => "the deadline has passed".to_owned(),
        None if order.via == PlacedVia::Event => "published to Kafka directly".to_owned(),
        _ => reason,
    }
}

/// For each scenario the order with the median duration.
pub(crate) fn typical<'a>(placed: &'a [PlacedOrder], took: &BTreeMap<Uuid, f64>) -> Vec<&'a PlacedOrder> {
    let of = |scenario: Scenario| {
        let mut orders: Vec<&PlacedOrder> =
            placed.iter().filter(|order| order.scenario == scenario && took.contains_key(&order.id)).collect();
        orders.sort_by(|a, b| took[&a.id].total_cmp(&took[&b.id]));
        orders.get(orders.len() / 2).copied()
    };
    Scenario::ALL.into_iter().filter_map(of).collect()
}

/// A remark on the number of calls.
pub(crate) fn calls(charges: &[&Charge]) -> Option<String> {
    let most = usize::try_from(charges.iter().map(|charge| charge.calls).max()?).ok()?;
    (most > 1).then(|| format!("up to {} each", count(most, "call")))
}
