//! Declarations survive writing and reading; a document that is no declaration yields an error with the reason.

use serde_json::{Value, json};

use super::*;
use crate::graph::fixture::{inventory, order, order_flow, payment, shipping, travel::travel_flow, with_schema};

#[test]
fn programs_read_steps_events_and_edges() {
    let flow = order_flow().to_json();
    let register = &flow["participants"][0]["steps"][0];
    assert_eq!(register["deadline"], json!({"after_ms": 300_000, "event": "order.cancellation_requested/1"}));
    let released = flow["events"].as_array().unwrap().iter().find(|e| e["name"] == "inventory.released").unwrap();
    assert_eq!(
        *released,
        json!({
            "id": "inventory.released/1", "name": "inventory.released", "version": 1,
            "topic": "inventory.events", "schema": {"type": "object"},
            "published_by": [{"participant": "inventory", "kind": "compensation", "step": "reserve", "how": "compensated"}],
            "consumed_by": [{"participant": "order", "kind": "action", "step": "cancel"}],
        })
    );
    let last = flow["edges"].as_array().unwrap().iter().find(|e| e["event"] == "order.cancelled/1").unwrap();
    assert_eq!(last["to"], json!({"end": "compensated"}));
}

fn text(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap()
}

#[test]
fn a_choreography_is_read_as_it_was_written() {
    let written = order_flow().to_json();
    let read = Choreography::from_json(&text(&written)).unwrap();
    assert_eq!(read.to_json(), written);
    assert_eq!(read.declarations(), order_flow().declarations());
    assert_eq!(read.check(), []);
}

#[test]
fn deadlines_and_rounds_of_a_step_are_written_and_read() {
    let mut declaration = order();
    declaration.steps[0].saga_deadline = declaration.steps[0].deadline.clone();
    declaration.steps[0].rounds = Some(3);
    let document = declaration.to_json();
    let step = &document["steps"][0];
    assert_eq!(step["saga_deadline"], step["deadline"]);
    assert_eq!(step["rounds"], 3);
    assert_eq!(Declaration::read_all(&text(&document)).unwrap(), [declaration]);
}

#[test]
fn a_compensation_at_best_effort_is_written_and_read() {
    let mut declaration = inventory();
    assert_eq!(declaration.to_json()["steps"][0]["compensation"].get("best_effort"), None);
    declaration.steps[0].compensation.as_mut().unwrap().best_effort = true;
    let document = declaration.to_json();
    assert_eq!(document["steps"][0]["compensation"]["best_effort"], json!(true));
    assert_eq!(Declaration::read_all(&text(&document)).unwrap(), [declaration]);
}

#[test]
fn a_step_that_is_retried_until_it_succeeds_is_written_and_read() {
    let mut declaration = inventory();
    assert_eq!(declaration.to_json()["steps"][0].get("until_it_succeeds"), None);
    declaration.steps[0].until_it_succeeds = true;
    let document = declaration.to_json();
    assert_eq!(document["steps"][0]["until_it_succeeds"], json!(true));
    assert_eq!(Declaration::read_all(&text(&document)).unwrap(), [declaration]);
}

#[test]
fn declarations_of_single_participants_make_the_same_choreography() {
    let documents = [order(), inventory(), payment(), shipping()].map(|declaration| text(&declaration.to_json()));
    let read = documents.iter().flat_map(|document| Declaration::read_all(document).unwrap()).collect();
    assert_eq!(Choreography::of(read).to_json(), order_flow().to_json());
}

#[test]
fn contradicting_declarations_of_an_event_are_kept() {
    let mut flow = [order(), inventory(), payment(), shipping()];
    flow[3].steps[0].triggers[0] = with_schema("payment.charged", "charges", json!({"type": "string"}));
    let (before, written) = (Choreography::of(flow.to_vec()).check(), Choreography::of(flow.to_vec()).to_json());
    assert!(!before.is_empty());
    assert_eq!(Choreography::from_json(&text(&written)).unwrap().check(), before);
}

#[test]
fn a_document_that_is_no_declaration_yields_an_error_with_the_reason() {
    let wrong = |document: Value| Declaration::read_all(&text(&document)).unwrap_err().to_string();
    assert!(wrong(json!({"$id": "/schemas/order.created/1"})).contains("\"format\" is null"));
    assert!(wrong(json!({"format": "saga.participant/2"})).contains("saga.participant/1"));
    let mut document = inventory().to_json();
    document["events"] = json!([]);
    assert_eq!(wrong(document), "inventory refers to the event order.created/1, which is missing in \"events\"");
    let mut document = inventory().to_json();
    document["steps"] = json!(1);
    assert!(wrong(document).contains("does not have the form"));
}

#[test]
fn additions_of_a_newer_program_are_ignored() {
    let mut document = inventory().to_json();
    document["owner"] = json!("the stock team");
    document["steps"][0]["retries"] = json!(3);
    document["accepted"] = json!([{"rule": "no-two-owners", "why": "history"}]);
    assert_eq!(Declaration::read_all(&text(&document)).unwrap(), [inventory()]);
}

#[test]
fn a_join_is_written_by_its_parts_with_an_edge_for_each_event() {
    let flow = travel_flow();
    let document = flow.to_json();
    let cancel = &document["participants"][0]["steps"][2];
    assert_eq!(cancel["all_of"][1], json!(["hotel.rejected/1", "hotel.released/1"]));
    assert_eq!(cancel["triggers"].as_array().unwrap().len(), 6);
    let into_charge =
        |edge: &&Value| edge["to"] == json!({"participant": "payment", "kind": "action", "step": "charge"});
    let edges: Vec<_> = document["edges"].as_array().unwrap().iter().filter(into_charge).map(|e| &e["event"]).collect();
    assert_eq!(edges, ["flight.reserved/1", "hotel.reserved/1", "car.reserved/1"]);
    let read = Choreography::from_json(&text(&document)).unwrap();
    assert_eq!((read.declarations(), read.check()), (flow.declarations(), vec![]));
}
