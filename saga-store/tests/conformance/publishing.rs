//! Publishing outside a step: with the rows of its transaction, in the order of the commits, whoever is still there.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use saga_core::{
    Event, SagaId, StepError,
    event::EventType,
    runtime::AnyOutbox,
    store::{OutboxRow, StoreError},
    trace::TraceContext,
};
use saga_store::{Db, Outbox, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::support::{outbox_row, unsent};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "note.taken", topic = "note.events", saga = "id")]
struct Taken {
    id: Uuid,
    number: i64,
}

/// What was handed over, in its order.
#[derive(Clone, Default)]
struct Relay(Arc<Mutex<Vec<OutboxRow>>>);

impl AnyOutbox for Relay {
    fn row(&self, _: EventType, data: Vec<u8>, saga: SagaId, _: &TraceContext) -> OutboxRow {
        let mut row = outbox_row(saga);
        row.record.value = Some(data);
        row
    }

    fn committed(&self, rows: Vec<OutboxRow>) {
        self.0.lock().unwrap().extend(rows);
    }

    fn perhaps_committed(&self, _: &[OutboxRow]) {}
}

impl Relay {
    fn numbers(&self) -> Vec<i64> {
        let rows = self.0.lock().unwrap();
        rows.iter()
            .map(|row| serde_json::from_slice::<Taken>(row.record.value.as_deref().unwrap()).unwrap().number)
            .collect()
    }
}

const TURN: &str = "INSERT INTO note (id) VALUES ($1)";
const COUNT: &str = "SELECT count(*) AS n FROM note";
const LOCK: &str = "UPDATE note SET id = id WHERE id = 'lock'";

/// Takes the next number under a lock, as a request does that changes a row.
async fn take(outbox: Outbox, id: Uuid) -> Result<(), StepError> {
    let note = format!("note {}", Uuid::new_v4());
    let note = note.as_str();
    outbox
        .transaction(&TraceContext::default(), async |mut tx| {
            tx.execute(LOCK, params![]).await?;
            let number = tx.query_opt(COUNT, params![]).await?.map_or(Ok(0), |row| row.get::<i64>("n"))?;
            tx.execute(TURN, params![note]).await?;
            tx.publish(&Taken { id, number })?;
            Ok::<_, StepError>((tx, ()))
        })
        .await
}

async fn locked(db: &Db) {
    let lock = async |tx: saga_store::Tx| {
        tx.execute(TURN, params!["lock"]).await?;
        Ok::<_, StoreError>((tx, (), Vec::new()))
    };
    db.transaction(lock).await.unwrap();
}

on_both! {
    async fn events_of_one_saga_are_handed_over_in_the_order_of_their_commits(f: &Fixture) {
        locked(&f.db).await;
        let (relay, id) = (Relay::default(), Uuid::new_v4());
        let outbox = Outbox::new(f.db.clone(), relay.clone());
        let requests: Vec<_> = (0..60).map(|_| tokio::spawn(take(outbox.clone(), id))).collect();
        for request in requests {
            request.await.unwrap().unwrap();
        }
        assert_eq!(relay.numbers(), (1..=60).collect::<Vec<_>>());
    }

    async fn what_is_committed_is_handed_over_also_when_its_client_has_gone(f: &Fixture) {
        locked(&f.db).await;
        let relay = Relay::default();
        let outbox = Outbox::new(f.db.clone(), relay.clone());
        for round in 0..60u64 {
            let request = tokio::spawn(take(outbox.clone(), Uuid::new_v4()));
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            request.abort();
        }
        // One more, which waits for all that are still under way.
        take(outbox.clone(), Uuid::new_v4()).await.unwrap();
        for _ in 0..200 {
            if unsent(&f.db).await.len() == relay.numbers().len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(unsent(&f.db).await.len(), relay.numbers().len());
    }

    async fn an_event_of_a_transaction_that_fails_is_not_published(f: &Fixture) {
        let relay = Relay::default();
        let outbox = Outbox::new(f.db.clone(), relay.clone());
        let failed: Result<(), StepError> = outbox
            .transaction(&TraceContext::default(), async |mut tx| {
                tx.publish(&Taken { id: Uuid::new_v4(), number: 1 })?;
                Err(StepError::permanent("changed my mind"))
            })
            .await;
        assert!(failed.is_err() && relay.numbers().is_empty() && unsent(&f.db).await.is_empty());
    }
}
