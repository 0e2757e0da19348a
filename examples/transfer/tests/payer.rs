//! The payer's bank on the real runtime: given some events, when one arrives, then these are published.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{CLOSED, ID, execute, payer_with, requested};
use saga::prelude::*;
use transfer::{
    events::{PayeeRefused, PayerDebited, PayerRefunded, PayerRefused},
    payer::participant,
};

fn refused() -> PayeeRefused {
    PayeeRefused { transfer_id: ID, reason: CLOSED.to_owned() }
}

async fn cents(db: &Db) -> i64 {
    let row = db.query_opt("SELECT cents FROM accounts WHERE account = 'ada'", params![]).await.unwrap().unwrap();
    row.get("cents").unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_account_with_cover_is_debited() {
    let db = payer_with(100).await;
    let published = Scenario::new(participant(), db.clone()).when(&requested(100)).await;
    assert_eq!(published[0].read(), Some(PayerDebited { transfer_id: ID, to: "shop".to_owned(), cents: 100 }));
    assert_eq!(cents(&db).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_account_without_cover_is_left_alone() {
    let db = payer_with(99).await;
    let published = Scenario::new(participant(), db.clone()).when(&requested(100)).await;
    assert_eq!(published[0].read(), Some(PayerRefused { transfer_id: ID, reason: "no_cover".to_owned() }));
    assert_eq!(cents(&db).await, 99);
}

#[tokio::test(start_paused = true)]
async fn what_the_payee_refuses_is_refunded_once() {
    let db = payer_with(100).await;
    let scenario = Scenario::new(participant(), db.clone()).given(&requested(100));
    let published = scenario.when(&refused()).await;
    assert_eq!(published[0].read(), Some(PayerRefunded { transfer_id: ID, reason: CLOSED.to_owned() }));
    assert_eq!(cents(&db).await, 100);
    assert!(Scenario::new(participant(), db.clone()).when(&refused()).await.is_empty(), "the second one does nothing");
    assert_eq!(cents(&db).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_finds_no_account_or_no_debit_is_not_one() {
    for gone in ["DELETE FROM accounts", "DELETE FROM debits"] {
        let db = payer_with(100).await;
        Scenario::new(participant(), db.clone()).when(&requested(100)).await;
        execute(&db, gone, params![]).await;
        let published = Scenario::new(participant(), db.clone()).when(&refused()).await;
        assert_eq!(&*published[0].record.topic, "payer.dlq", "{gone}");
        let refunded = db.query("SELECT transfer_id FROM debits WHERE refunded", params![]).await.unwrap();
        assert_eq!(refunded.len(), 0, "{gone}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_overtakes_its_request_refunds_nothing_and_closes_the_debit() {
    let db = payer_with(100).await;
    let published = Scenario::new(participant(), db.clone()).when(&refused()).await;
    assert!(published[0].null_compensation && published[0].event_type == PayerRefunded::NAME);
    assert!(Scenario::new(participant(), db.clone()).when(&requested(100)).await.is_empty());
    assert_eq!(cents(&db).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_amount_is_dead_lettered() {
    let db = payer_with(100).await;
    let published = Scenario::new(participant(), db.clone()).when(&requested(-100)).await;
    assert_eq!(&*published[0].record.topic, "payer.dlq");
    assert_eq!(cents(&db).await, 100);
}
