//! {name} on the real runtime: given these events, when this one comes, then that is published.

use saga::prelude::*;
use {crate}::{
    events::{Rejected, Released, RequestCancelled, RequestMade, Reserved},
    participant::{MIGRATIONS, participant},
};

const REQUEST: Uuid = Uuid::from_u128(1);

async fn scenario() -> Scenario<Db> {
    let db = Db::connect("sqlite::memory:".parse().unwrap(), "test", MIGRATIONS).await.unwrap();
    Scenario::new(participant(), db)
}

#[tokio::test(start_paused = true)]
async fn what_there_is_is_reserved() {
    let published = scenario().await.when(&RequestMade { request_id: REQUEST, quantity: 3 }).await;
    assert_eq!(published[0].read(), Some(Reserved { request_id: REQUEST }));
}

#[tokio::test(start_paused = true)]
async fn too_many_are_refused() {
    let published = scenario().await.when(&RequestMade { request_id: REQUEST, quantity: 11 }).await;
    assert_eq!(published[0].read(), Some(Rejected { request_id: REQUEST, reason: "too_many".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_cancelled_before_it_came_reserves_nothing() {
    let cancelled = RequestCancelled { request_id: REQUEST };
    let published = scenario().await.when(&cancelled).await;
    assert_eq!(published[0].read(), Some(Released { request_id: REQUEST }));
    assert!(published[0].null_compensation, "there was nothing to undo");
    let late = scenario().await.given(&cancelled).when(&RequestMade { request_id: REQUEST, quantity: 1 }).await;
    assert!(late.is_empty(), "{late:?}");
}
