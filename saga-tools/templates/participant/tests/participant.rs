//! Tests {name} on the real runtime: given some events, when one arrives, then these are published.

use saga::prelude::*;

use {crate}::{
    events::{Rejected, Released, RequestCancelled, RequestMade, Reserved},
    participant::{MIGRATIONS, participant},
};

const ID: Uuid = Uuid::from_u128(1);

fn made(quantity: i64) -> RequestMade {
    RequestMade {
        request_id: ID,
        quantity,
    }
}

async fn database() -> Db {
    let url = "sqlite::memory:".parse().unwrap();
    Db::connect(url, "test", MIGRATIONS).await.unwrap()
}

async fn scenario() -> Scenario<Db> {
    Scenario::new(participant(), database().await)
}

#[tokio::test(start_paused = true)]
async fn what_there_is_is_reserved() {
    let published = scenario().await.when(&made(3)).await;
    assert_eq!(published[0].read(), Some(Reserved { request_id: ID }));
}

#[tokio::test(start_paused = true)]
async fn too_many_are_refused() {
    let published = scenario().await.when(&made(11)).await;
    let rejected: Rejected = published[0].read().unwrap();
    assert_eq!(rejected.reason, "too_many");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_cancelled_before_it_came_reserves_nothing() {
    let cancelled = RequestCancelled { request_id: ID };
    let published = scenario().await.when(&cancelled).await;
    assert_eq!(published[0].read(), Some(Released { request_id: ID }));
    assert!(published[0].null_compensation, "nothing to compensate");
    let late = scenario().await.given(&cancelled).when(&made(1)).await;
    assert!(late.is_empty(), "{late:?}");
}

/// All participants of a flow together, each with its own database; here there is one.
#[tokio::test(start_paused = true)]
async fn a_request_is_reserved_and_nothing_is_dead_lettered() {
    Flow::on([(participant(), database().await)])
        .run(async |flow| {
            flow.when(&made(3)).await;
            assert_eq!(flow.types(), ["request.made", "{name}.reserved"]);
            assert!(flow.dead_letters().is_empty());
        })
        .await;
}
