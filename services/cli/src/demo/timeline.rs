//! One order's story, event by event, with its waits.

use std::collections::BTreeMap;

use saga_core::graph::{Choreography, How, NodeKind};
use serde::Serialize;
use uuid::Uuid;

use super::{
    ending::Ending,
    facts::Charge,
    place::{Placed, Via},
};
use saga_tools::text::{count, duration, money};
use saga_tools::{event::Event, origin::origin};

/// A line of a timeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Moment {
    /// Since the order was created; none for a wait.
    pub(crate) at_ms: Option<f64>,
    pub(crate) participant: String,
    /// None for a wait.
    pub(crate) event: Option<String>,
    pub(crate) null_compensation: bool,
    pub(crate) note: String,
}

/// An order's story.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Timeline {
    pub(crate) ending: Ending,
    pub(crate) order_id: Uuid,
    pub(crate) placed: Via,
    pub(crate) about: String,
    pub(crate) moments: Vec<Moment>,
}

/// The story of an order whose events these are.
pub(crate) fn timeline(flow: &Choreography, order: &Placed, events: &[&Event], charges: &[Charge]) -> Timeline {
    let start = events.first().map(|event| event.at).unwrap_or_default();
    let since = |at: jiff::Timestamp| at.duration_since(start).as_secs_f64() * 1000.0;
    let calls: i64 = charges.iter().map(|charge| charge.calls).sum();
    let mut moments: Vec<Moment> = Vec::new();
    let mut before = 0.0;
    for event in events {
        let at = since(event.at);
        let wait = |participant: &str, note: String| Moment {
            at_ms: None,
            participant: participant.to_owned(),
            event: None,
            null_compensation: false,
            note,
        };
        if event.kind == "payment.charged" || event.kind == "payment.declined" {
            if calls > 1 {
                let parked = duration(at - before);
                let vain = if event.kind == "payment.declined" { " in vain" } else { "" };
                let note = format!("gateway called {calls} times{vain}, saga parked meanwhile: {parked}");
                moments.push(wait("payment", note));
            }
        } else if order.ending == Ending::PastDeadline && event.kind == "order.cancellation_requested" {
            moments.push(wait("shipping", "is stopped: nobody takes payment.charged".to_owned()));
        }
        moments.push(Moment {
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
    Timeline { ending: order.ending, order_id: order.id, placed: order.via, about, moments }
}

/// The parts of an order that fit in a line.
struct OrderCreatedShort<'a> {
    total: String,
    card: &'a str,
    country: &'a str,
}

impl<'a> OrderCreatedShort<'a> {
    fn of(order: &'a Placed) -> Self {
        let total = money(order.event.total_cents);
        Self { total, card: &order.event.payment_method, country: &order.event.shipping_address.country }
    }
}

/// What the event means, as its producer declares it.
fn note(flow: &Choreography, order: &Placed, event: &Event) -> String {
    let reason = event.reason.clone().unwrap_or_default();
    match origin(flow, event, None) {
        Some((_, How::Refusal)) => format!("refused: {reason}"),
        Some(_) if event.null => "nothing to undo".to_owned(),
        Some((node, How::Compensated)) if node.kind == NodeKind::Compensation => format!("undoes {}", node.step),
        Some((_, How::Deadline)) if reason == "deadline" => "the deadline has passed".to_owned(),
        None if order.via == Via::Event => "published straight to Kafka".to_owned(),
        _ => reason,
    }
}

/// For each ending, the order whose time is in the middle: the typical one.
pub(crate) fn typical<'a>(placed: &'a [Placed], took: &BTreeMap<Uuid, f64>) -> Vec<&'a Placed> {
    let of = |ending: Ending| {
        let mut orders: Vec<&Placed> =
            placed.iter().filter(|order| order.ending == ending && took.contains_key(&order.id)).collect();
        orders.sort_by(|a, b| took[&a.id].total_cmp(&took[&b.id]));
        orders.get(orders.len() / 2).copied()
    };
    Ending::ALL.into_iter().filter_map(of).collect()
}

/// How often something was called, for a table's remark.
pub(crate) fn calls(charges: &[&Charge]) -> Option<String> {
    let most = usize::try_from(charges.iter().map(|charge| charge.calls).max()?).ok()?;
    (most > 1).then(|| format!("up to {} each", count(most, "call")))
}
