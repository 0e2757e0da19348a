//! Checks endings and effects: reservations, charges and shipments of each order.

use std::collections::{BTreeMap, BTreeSet};

use saga_core::graph::Ending;

use super::{Evidence, Invariant};
use crate::demo::{
    customers::PlacedOrder,
    database_state::{Charge, OrderRow},
};
use saga_tools::text::{count, money};

pub(super) fn ended(evidence: &Evidence<'_>) -> Invariant {
    let Evidence { log, state, placed, .. } = evidence;
    let mut violations = Vec::new();
    for order in *placed {
        let wanted = (order.status(), order.reason());
        let stored = state.orders.get(&order.id);
        if stored.map(|row| (row.status.as_str(), row.reason.clone())) != Some(wanted.clone()) {
            violations.push(format!(
                "{}: should be {}, is {}",
                order.id,
                shown(&wanted),
                stored.map_or("unknown".into(), |row| shown(&(row.status.as_str(), row.reason.clone())))
            ));
        }
        if let Some(answer) = &order.shown
            && (answer.status.as_str(), answer.reason.clone()) != wanted
        {
            violations.push(format!("{}: GET /orders says {}", order.id, answer.status));
        }
        let end = if order.reason().is_none() { Ending::Completed } else { Ending::Compensated };
        if log.end(order.id).map(|(end, _)| end) != Some(end) {
            violations.push(format!("{}: its last event is not on the topics", order.id));
        }
    }
    let known: BTreeSet<_> = placed.iter().map(|order| order.id).collect();
    violations.extend(
        state.orders.keys().filter(|id| !known.contains(*id)).map(|id| format!("{id}: no such order was placed")),
    );
    let confirmed = with_status(evidence, "confirmed").count();
    let cancelled = with_status(evidence, "cancelled").count();
    let numbers =
        format!("{} of {}: {confirmed} confirmed, {cancelled} cancelled", confirmed + cancelled, placed.len());
    Invariant::new("every order ended as it should", numbers, violations)
}

fn shown((status, reason): &(&str, Option<String>)) -> String {
    reason.as_ref().map_or((*status).to_owned(), |reason| format!("{status} ({reason})"))
}

pub(super) fn none_twice(evidence: &Evidence<'_>) -> Invariant {
    let Evidence { log, state, placed, .. } = evidence;
    let mut violations = Vec::new();
    let mut events = 0;
    for (saga, of_saga) in log.by_saga() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &of_saga {
            *kinds.entry(&event.kind).or_default() += 1;
        }
        events += of_saga.len();
        violations.extend(kinds.iter().filter(|(_, n)| **n > 1).map(|(kind, n)| format!("{saga}: {kind} {n} times")));
    }
    for order in *placed {
        let charges = state.charges.get(&order.id).map_or(&[][..], Vec::as_slice);
        let captures = charges.iter().filter(|charge| charge.captured_cents > 0).count();
        if charges.len() > 1 || captured(charges) > order.event.total_cents {
            violations.push(format!("{}: {captures} captures, {} cents", order.id, captured(charges)));
        }
        for (sku, reserved) in state.reservations.get(&order.id).into_iter().flatten() {
            let ordered = order.event.items.iter().find(|item| item.sku == *sku).map_or(0, |item| item.quantity);
            if *reserved > ordered {
                violations.push(format!("{}: {reserved} of {sku} reserved, {ordered} ordered", order.id));
            }
        }
    }
    let calls: i64 = state.charges.values().flatten().map(|charge| charge.calls).sum();
    let captures = state.charges.values().flatten().filter(|charge| charge.captured_cents > 0).count();
    let numbers = format!(
        "{events} events, none twice in a saga; {} from {}",
        count(captures, "capture"),
        count(usize::try_from(calls).unwrap_or_default(), "call")
    );
    Invariant::new("no effect happened twice", numbers, violations)
}

pub(super) fn confirmed(evidence: &Evidence<'_>) -> Invariant {
    let state = evidence.state;
    let (mut violations, mut orders, mut units) = (Vec::new(), 0, 0);
    for (order, row) in with_status(evidence, "confirmed") {
        orders += 1;
        let total = order.event.total_cents;
        let charges = state.charges.get(&order.id).map_or(&[][..], Vec::as_slice);
        if (captured(charges), refunded(charges)) != (total, 0) || row.total_cents != Some(total) {
            violations.push(format!("{}: {} of {total} cents captured", order.id, captured(charges)));
        }
        if state.payments.get(&order.id) != Some(&("charged".to_owned(), total)) {
            violations.push(format!("{}: payment has it as {:?}", order.id, state.payments.get(&order.id)));
        }
        let ordered: BTreeMap<String, i64> =
            order.event.items.iter().map(|item| (item.sku.clone(), item.quantity)).collect();
        let reserved = state.reservations.get(&order.id).cloned().unwrap_or_default();
        if reserved != ordered {
            violations.push(format!("{}: reserved {reserved:?}, ordered {ordered:?}", order.id));
        }
        units += reserved.values().sum::<i64>();
        if state.shipments.get(&order.id).map(String::as_str) != Some("scheduled") {
            violations.push(format!("{}: no parcel is scheduled", order.id));
        }
    }
    let numbers = format!("{}: {units} units, {orders} parcels", count(orders, "order"));
    Invariant::new("confirmed: charged, reserved, scheduled in full", numbers, violations)
}

pub(super) fn cancelled(evidence: &Evidence<'_>) -> Invariant {
    let state = evidence.state;
    let (mut violations, mut orders, mut back) = (Vec::new(), 0, 0);
    for (order, _) in with_status(evidence, "cancelled") {
        orders += 1;
        let charges = state.charges.get(&order.id).map_or(&[][..], Vec::as_slice);
        if captured(charges) != refunded(charges) {
            let (captured, refunded) = (captured(charges), refunded(charges));
            violations.push(format!("{}: {captured} cents captured, {refunded} refunded", order.id));
        }
        back += refunded(charges);
        if state.payments.get(&order.id).is_some_and(|(status, _)| status == "charged") {
            violations.push(format!("{}: payment has it as charged", order.id));
        }
        if let Some(reserved) = state.reservations.get(&order.id) {
            violations.push(format!("{}: still reserved: {reserved:?}", order.id));
        }
        if state.shipments.get(&order.id).is_some_and(|status| status == "scheduled") {
            violations.push(format!("{}: a parcel is scheduled", order.id));
        }
    }
    let numbers = format!("{}: {} EUR captured and refunded", count(orders, "order"), money(back));
    Invariant::new("cancelled: nothing reserved, charged or shipped", numbers, violations)
}

pub(super) fn stock_conserved(evidence: &Evidence<'_>) -> Invariant {
    let Evidence { state, stock, .. } = evidence;
    let mut violations = Vec::new();
    let (mut all, mut available, mut reserved) = (0, 0, 0);
    for (sku, set) in *stock {
        let Some(now) = state.stock.get(sku) else {
            violations.push(format!("{sku}: gone from the stock"));
            continue;
        };
        (all, available, reserved) = (all + set, available + now.available, reserved + now.reserved);
        if now.available + now.reserved != *set {
            violations.push(format!("{sku}: {} available + {} reserved, {set} set", now.available, now.reserved));
        }
        let held: i64 = state.reservations.values().filter_map(|items| items.get(sku)).sum();
        if held != now.reserved {
            violations.push(format!("{sku}: {} reserved, {held} of them for orders", now.reserved));
        }
    }
    let numbers = format!("{all} units = {available} available + {reserved} reserved");
    Invariant::new("stock is conserved", numbers, violations)
}

pub(super) fn money_conserved(evidence: &Evidence<'_>) -> Invariant {
    let all = || evidence.state.charges.values().map(Vec::as_slice);
    let (taken, back): (i64, i64) = (all().map(captured).sum(), all().map(refunded).sum());
    let owed: i64 = with_status(evidence, "confirmed").map(|(order, _)| order.event.total_cents).sum();
    let violations = if taken - back == owed {
        Vec::new()
    } else {
        vec![format!("{} EUR are kept, {} are owed", money(taken - back), money(owed))]
    };
    let numbers = format!("{} EUR captured - {} refunded = {} confirmed", money(taken), money(back), money(owed));
    Invariant::new("money is conserved", numbers, violations)
}

/// The placed orders with this status in the order service's table.
fn with_status<'a>(
    evidence: &'a Evidence<'_>,
    status: &'static str,
) -> impl Iterator<Item = (&'a PlacedOrder, &'a OrderRow)> {
    let row = |order: &'a PlacedOrder| evidence.state.orders.get(&order.id).map(|row| (order, row));
    evidence.placed.iter().filter_map(row).filter(move |(_, row)| row.status == status)
}

fn captured(charges: &[Charge]) -> i64 {
    charges.iter().map(|charge| charge.captured_cents).sum()
}

fn refunded(charges: &[Charge]) -> i64 {
    charges.iter().map(|charge| charge.refunded_cents).sum()
}
