//! A step that runs in rounds on Kafka and PostgreSQL, in a process that is killed between them.

use uuid::Uuid;

use crate::{
    common::tracking::{ROUNDS, Sent},
    live::Live,
};

const LOOKED: &str = "SELECT count(*) FROM looked";

#[tokio::test]
async fn rounds_survive_kill_9_and_none_runs_twice() {
    let Some(live) = Live::new("tracking").await else { return };
    let mut process = live.start("one");
    let parcels: Vec<Sent> = (0..200).map(|_| Sent { id: Uuid::now_v7() }).collect();
    live.publish(&parcels).await;
    let all = 200 * i64::from(ROUNDS);
    for kill_at in [150, 500, 900, all] {
        live.reaches("rounds", LOOKED, kill_at).await;
        if kill_at < all {
            process.signal("-KILL");
            drop(process);
            process = live.start("one");
        }
    }
    live.reaches("all are done", "SELECT count(*) FROM saga_barrier WHERE mark = 'done'", 200).await;
    assert_eq!(live.count(LOOKED).await, all, "each round of each parcel, once");
    assert_eq!(live.count("SELECT count(*) FROM saga_parked").await, 0);
    drop(process);
    live.drop_schema().await;
}
