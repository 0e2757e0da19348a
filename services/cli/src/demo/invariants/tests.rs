//! The invariants on constructed evidence: valid, and with one defect at a time.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use order_flow_events::{
    InventoryReleased, InventoryReserved, OrderCancelled, OrderConfirmed, OrderCreated, PaymentCharged,
    PaymentRefunded, Reason, ShippingRejected, ShippingScheduled,
};
use saga_core::{
    Event,
    barrier::Op,
    dead_letter::{self, Poison as Flaw},
    envelope::{self, Outgoing},
    event::EventType,
    graph::Choreography,
    record::{OutRecord, Record},
    trace::TraceContext,
};
use uuid::Uuid;

use super::{Evidence, Invariant, PoisonEvent, event_counts, judge};
use crate::{
    demo::{
        customers::{PlacedOrder, PlacedVia},
        database_state::{Charge, DatabaseState, FrameworkTables, OrderRow, Stock},
        scenario::{SHELF, Scenario},
        topic_log::TopicLog,
    },
    flow::order_flow,
};

/// A confirmed order, one that was refunded because it cannot be shipped, and the poison event.
struct Case {
    flow: Choreography,
    log: TopicLog,
    state: DatabaseState,
    placed: Vec<PlacedOrder>,
    stock: BTreeMap<String, i64>,
    poison: PoisonEvent,
}

impl Case {
    fn sound() -> Self {
        let flow = order_flow().unwrap();
        let placed: Vec<PlacedOrder> = [Scenario::Confirmed, Scenario::Unshippable].into_iter().map(placed).collect();
        let stock = SHELF.into_iter().map(|(sku, _)| (sku.to_owned(), 100)).collect();
        let log = TopicLog::of(&flow);
        let mut case = Self { flow, log, state: DatabaseState::default(), placed, stock, poison: PoisonEvent::new() };
        case.happen();
        case.settle();
        case
    }

    /// Adds the records of both orders and the poison event.
    fn happen(&mut self) {
        let (good, bad) = (self.placed[0].event.clone(), self.placed[1].event.clone());
        for order in [&good, &bad] {
            self.published("order", order);
            self.published("inventory", &reserved(order));
            let charged = PaymentCharged { order_id: order.order_id, shipping_address: order.shipping_address.clone() };
            self.published("payment", &charged);
        }
        let tracking_number = "TRK-1".to_owned();
        self.published(
            "shipping",
            &ShippingScheduled { order_id: good.order_id, tracking_number: tracking_number.clone() },
        );
        self.published("order", &OrderConfirmed { order_id: good.order_id, tracking_number });
        let (order_id, reason) = (bad.order_id, Reason::Unshippable);
        self.published("shipping", &ShippingRejected { order_id, reason: reason.clone() });
        self.published("payment", &PaymentRefunded { order_id, reason: reason.clone() });
        self.published("inventory", &InventoryReleased { order_id, reason: reason.clone() });
        self.published("order", &OrderCancelled { order_id, reason });

        let poison = self.record(self.poison.record.clone());
        let flaw = Flaw::new(self.poison.reason, "JSON that ends early");
        self.log.add(poison.clone(), Instant::now());
        for participant in ["inventory", "order"] {
            self.dead_letter(dead_letter::letter(participant, &poison, &flaw, 1, Timestamp::now()));
        }
    }

    fn published<E: Event>(&mut self, source: &str, event: &E) {
        let outgoing = Outgoing {
            id: Uuid::now_v7(),
            source,
            saga_id: event.saga_id(),
            causation_id: None,
            time: Timestamp::now(),
            trace: &TraceContext::default(),
            null_compensation: false,
        };
        let record = envelope::seal(EventType::of::<E>(), serde_json::to_vec(event).unwrap(), &outgoing);
        let record = self.record(record);
        self.log.add(record, Instant::now());
    }

    fn dead_letter(&mut self, dead_letter: OutRecord) {
        let dead_letter = self.record(dead_letter);
        self.log.add(dead_letter, Instant::now());
    }

    fn record(&self, out: OutRecord) -> Record {
        let offset = i64::try_from(self.log.entries.len()).unwrap();
        let OutRecord { topic, key, value, headers } = out;
        Record { topic: topic.as_ref().into(), partition: 0, offset, key, value, headers }
    }

    /// Sets the databases to the matching state.
    fn settle(&mut self) {
        let state = &mut self.state;
        for order in &self.placed {
            let (id, total) = (order.id, order.event.total_cents);
            let row = OrderRow { status: order.status().to_owned(), reason: order.reason(), total_cents: Some(total) };
            state.orders.insert(id, row);
            let good = order.reason().is_none();
            let refunded_cents = if good { 0 } else { total };
            state.charges.insert(id, vec![Charge { calls: 1, captured_cents: total, refunded_cents }]);
            state.payments.insert(id, (if good { "charged" } else { "refunded" }.to_owned(), total));
            state.shipments.insert(id, if good { "scheduled" } else { "rejected" }.to_owned());
        }
        let good = &self.placed[0];
        let items = good.event.items.iter().map(|item| (item.sku.clone(), item.quantity)).collect::<BTreeMap<_, _>>();
        for sku in self.stock.keys() {
            let reserved = items.get(sku).copied().unwrap_or_default();
            state.stock.insert(sku.clone(), Stock { available: 100 - reserved, reserved });
        }
        state.reservations.insert(good.id, items);
        for declaration in self.flow.declarations() {
            let halves = event_counts::consumed(declaration);
            let poison = std::str::from_utf8(self.poison.record.key.as_deref().unwrap()).unwrap();
            let handled = self.log.events().filter(|e| e.saga.to_string() != poison).filter_map(|event| {
                let (_, step, op) = halves.get(event.kind.as_str())?;
                Some(((event.saga, (*step).to_owned(), *op), event.identity))
            });
            let books = FrameworkTables { barrier: handled.collect(), outbox: 0, parked: 0 };
            state.tables.insert(declaration.participant.to_owned(), books);
        }
    }

    fn judged(&self) -> Vec<Invariant> {
        let Self { flow, log, state, placed, stock, poison } = self;
        judge(&Evidence { flow, log, state, placed, stock, poison }).0
    }

    /// The violated invariants, by the first word of their names.
    fn broken(&self) -> Vec<&'static str> {
        let first = |name: &'static str| name.split([':', ' ']).next().unwrap_or_default();
        self.judged().iter().filter(|invariant| !invariant.holds).map(|i| first(i.invariant)).collect()
    }

    fn good(&self) -> Uuid {
        self.placed[0].id
    }

    fn bad(&self) -> Uuid {
        self.placed[1].id
    }
}

fn placed(scenario: Scenario) -> PlacedOrder {
    let id = Uuid::now_v7();
    PlacedOrder {
        scenario,
        id,
        event: scenario.basket(1).into_event(id),
        via: PlacedVia::Http,
        sent: Instant::now(),
        shown: None,
    }
}

fn reserved(order: &OrderCreated) -> InventoryReserved {
    InventoryReserved {
        order_id: order.order_id,
        amount_cents: order.total_cents,
        currency: order.currency.clone(),
        payment_method: order.payment_method.clone(),
        shipping_address: order.shipping_address.clone(),
    }
}

#[test]
fn sound_evidence_breaks_nothing() {
    let case = Case::sound();
    let judged = case.judged();
    assert!(judged.iter().all(|invariant| invariant.holds), "{judged:#?}");
    assert_eq!(judged.len(), 9);
}

#[test]
fn an_order_that_ended_otherwise_is_found() {
    let mut case = Case::sound();
    let id = case.bad();
    case.state.orders.get_mut(&id).unwrap().reason = Some("deadline".to_owned());
    assert_eq!(case.broken(), ["every"]);
    case.state.orders.get_mut(&id).unwrap().status = "cancelling".to_owned();
    assert_eq!(case.broken(), ["every"]);
}

#[test]
fn a_second_capture_is_found() {
    let mut case = Case::sound();
    let id = case.good();
    let charges = case.state.charges.get_mut(&id).unwrap();
    charges.push(charges[0]);
    assert_eq!(case.broken(), ["no", "confirmed", "money"]);
}

#[test]
fn an_event_that_a_saga_brings_twice_under_two_ids_is_found() {
    let mut case = Case::sound();
    let (order_id, tracking_number) = (case.good(), "TRK-1".to_owned());
    case.published("order", &OrderConfirmed { order_id, tracking_number });
    assert_eq!(case.broken(), ["no"]);
}

#[test]
fn a_record_that_is_read_twice_counts_once() {
    let mut case = Case::sound();
    let again = case.log.entries[0].record.clone();
    case.log.add(Record { offset: 99, ..again }, Instant::now());
    assert!(case.broken().is_empty());
}

#[test]
fn what_a_cancelled_order_keeps_is_found() {
    let mut case = Case::sound();
    let id = case.bad();
    case.state.charges.get_mut(&id).unwrap()[0].refunded_cents = 0;
    assert_eq!(case.broken(), ["cancelled", "money"]);

    let mut case = Case::sound();
    let (id, sku) = (case.bad(), case.placed[1].event.items[0].sku.clone());
    case.state.reservations.insert(id, BTreeMap::from([(sku.clone(), 1)]));
    let stock = case.state.stock.get_mut(&sku).unwrap();
    (stock.available, stock.reserved) = (stock.available - 1, stock.reserved + 1);
    assert_eq!(case.broken(), ["cancelled"]);

    let mut case = Case::sound();
    let id = case.bad();
    case.state.shipments.insert(id, "scheduled".to_owned());
    assert_eq!(case.broken(), ["cancelled"]);
}

#[test]
fn what_a_confirmed_order_lacks_is_found() {
    let mut case = Case::sound();
    let id = case.good();
    case.state.shipments.remove(&id);
    assert_eq!(case.broken(), ["confirmed"]);

    let mut case = Case::sound();
    let id = case.good();
    case.state.reservations.remove(&id);
    assert_eq!(case.broken(), ["confirmed", "stock"]);
}

#[test]
fn stock_that_vanishes_is_found() {
    let mut case = Case::sound();
    case.state.stock.get_mut(SHELF[0].0).unwrap().available -= 1;
    assert_eq!(case.broken(), ["stock"]);
}

#[test]
fn an_event_that_was_not_handled_is_found() {
    let mut case = Case::sound();
    case.state.tables.get_mut("payment").unwrap().barrier.pop_first();
    assert_eq!(case.broken(), ["produced"]);

    let mut case = Case::sound();
    case.state
        .tables
        .get_mut("payment")
        .unwrap()
        .barrier
        .insert((Uuid::nil(), "charge".to_owned(), Op::Action), Uuid::nil());
    assert_eq!(case.broken(), ["produced"]);
}

#[test]
fn what_is_left_over_is_found() {
    let mut case = Case::sound();
    case.state.tables.get_mut("order").unwrap().outbox = 1;
    assert_eq!(case.broken(), ["outboxes"]);
    case.state
        .tables
        .insert("order".to_owned(), FrameworkTables { parked: 1, outbox: 0, ..case.state.tables["order"].clone() });
    assert_eq!(case.broken(), ["outboxes"]);
}

#[test]
fn a_dead_letter_that_is_not_the_original_is_found() {
    let mut case = Case::sound();
    let dead_letter = case.log.entries.iter_mut().find(|e| &*e.record.topic == "order.dlq").unwrap();
    dead_letter.record.value.as_mut().unwrap().push(b' ');
    assert_eq!(case.broken(), ["only"]);
}

#[test]
fn a_dead_letter_too_many_or_too_few_is_found() {
    let mut case = Case::sound();
    let flaw = Flaw::new(dead_letter::Reason::Permanent, "no");
    let record = case.log.entries[2].record.clone();
    case.dead_letter(dead_letter::letter("shipping", &record, &flaw, 1, Timestamp::now()));
    assert!(case.broken().contains(&"only"));

    let mut case = Case::sound();
    case.log.entries.retain(|entry| &*entry.record.topic != "inventory.dlq");
    assert_eq!(case.broken(), ["produced", "only"]);
}
