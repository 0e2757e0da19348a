//! The payee's bank on the real runtime: given some events, when one arrives, then these are published.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use common::{CLOSED, ID, payee};
use saga::prelude::*;
use transfer::{
    events::{PayeeCredited, PayeeRefused, PayerDebited},
    payee::participant,
};

fn debited(to: &str) -> PayerDebited {
    PayerDebited { transfer_id: ID, to: to.to_owned(), cents: 100 }
}

async fn cents(db: &Db) -> i64 {
    let rows = db.query("SELECT cents FROM accounts", params![]).await.unwrap();
    rows.iter().map(|row| row.get::<i64>("cents").unwrap()).sum()
}

#[tokio::test(start_paused = true)]
async fn an_open_account_is_credited_once() {
    let db = payee().await;
    let published = Scenario::new(participant(), db.clone()).when(&debited("shop")).await;
    assert_eq!(published[0].read(), Some(PayeeCredited { transfer_id: ID }));
    assert!(Scenario::new(participant(), db.clone()).when(&debited("shop")).await.is_empty(), "not twice");
    assert_eq!(cents(&db).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_closed_account_and_one_that_never_was_are_refused() {
    for to in ["gone", "nobody"] {
        let db = payee().await;
        let published = Scenario::new(participant(), db.clone()).when(&debited(to)).await;
        assert_eq!(published[0].read(), Some(PayeeRefused { transfer_id: ID, reason: CLOSED.to_owned() }));
        assert_eq!(cents(&db).await, 0);
    }
}
