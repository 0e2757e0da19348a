//! A join on Kafka and PostgreSQL whose two topics are consumed by two processes, which are killed between arrivals.

use uuid::Uuid;

use crate::{
    child::Probe,
    common::{
        client,
        meeting::{Left, Right},
    },
    live::Live,
};

const HELD: &str = "SELECT count(*) FROM meeting";

/// Publishes these at the same time.
async fn publish(meetings: &Live, left: &[Left], right: &[Right]) {
    tokio::join!(meetings.publish(left), meetings.publish(right));
}

/// Whether the process consumes this topic.
fn consumes(process: &Probe, topic: &str) -> bool {
    let metrics = client::get(process.addr, "/metrics").map(|answer| answer.body).unwrap_or_default();
    metrics.lines().any(|line| line.starts_with("saga_consumer_lag{") && line.contains(&format!("{topic}\"")))
}

/// Two processes of which each consumes one of the two topics.
async fn two_processes(meetings: &Live) -> (Probe, Probe) {
    let (one, other) = (meetings.start("one"), meetings.start("other"));
    let apart = async || {
        let of = |process: &Probe| (consumes(process, "a.events"), consumes(process, "b.events"));
        matches!((of(&one), of(&other)), ((true, false), (false, true)) | ((false, true), (true, false)))
    };
    meetings.eventually("each process consumes one of the topics", apart).await;
    (one, other)
}

fn sagas(count: usize) -> (Vec<Left>, Vec<Right>) {
    (0..count).map(|_| Uuid::now_v7()).map(|id| (Left { id }, Right { id })).unzip()
}

#[tokio::test]
async fn a_join_survives_kill_9_between_arrivals_that_two_processes_consume() {
    let Some(meetings) = Live::new("meeting").await else { return };
    let (one, other) = two_processes(&meetings).await;

    let (left, right) = sagas(300);
    publish(&meetings, &left, &right).await;
    meetings.reaches("all meet that come at once in two processes", HELD, 300).await;

    let (left, right) = sagas(300);
    publish(&meetings, &left, &[]).await;
    let waiting = async || meetings.count("SELECT count(*) FROM saga_barrier WHERE mark = 'waiting'").await == 300;
    meetings.eventually("all wait", waiting).await;
    one.signal("-KILL");
    other.signal("-KILL");
    drop((one, other));
    publish(&meetings, &[], &right).await;
    let (one, other) = two_processes(&meetings).await;
    meetings.reaches("all meet that waited", HELD, 600).await;

    let (left, right) = sagas(1_000);
    let begun = meetings.count(HELD).await;
    let killing = async {
        meetings.eventually("some have met", async || meetings.count(HELD).await > begun).await;
        one.signal("-KILL");
        drop(one);
        meetings.start("one")
    };
    let ((), _one) = tokio::join!(publish(&meetings, &left, &right), killing);
    meetings.reaches("all meet when one is killed meanwhile", HELD, 1_600).await;
    assert_eq!(meetings.count(HELD).await, 1_600);
    assert_eq!(meetings.count("SELECT count(*) FROM saga_barrier WHERE mark = 'done'").await, 1_600);
    assert_eq!(meetings.count("SELECT count(*) FROM saga_arrival").await, 3_200);
    drop(other);
    meetings.drop_schema().await;
}
