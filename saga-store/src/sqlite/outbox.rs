//! The outbox on SQLite: writing rows, reading unsent ones, deleting sent ones.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use saga_core::store::{OutboxRow, StoreError, Unsent};

use super::{
    Sqlite,
    columns::{micros, now, read_uuid, time},
    error::classify,
    rows::{Read, list},
};
use crate::columns;

const INSERT: &str = "INSERT INTO saga_outbox \
    (id, aggregatetype, aggregateid, type, topic, payload, headers, tracingspancontext, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const SENT: &str = "DELETE FROM saga_outbox WHERE id = ?1";
const UNSENT: &str =
    "SELECT seq, id, aggregateid, created_at > ?2 FROM saga_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?3";
const ROWS: &str = "SELECT id, aggregateid, type, topic, payload, headers, tracingspancontext, created_at \
    FROM saga_outbox WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY seq";

impl Sqlite {
    pub(crate) async fn unsent(&self, behind: i64, grace: Duration, limit: i64) -> Result<Vec<Unsent>, StoreError> {
        let old = now().checked_sub(grace).unwrap_or(Timestamp::MIN);
        self.read(|conn| list(conn, UNSENT, params![behind, micros(old), limit], unsent))
    }

    pub(crate) async fn outbox(&self, ids: &[uuid::Uuid]) -> Result<Vec<OutboxRow>, StoreError> {
        let ids = serde_json::Value::from_iter(ids.iter().map(uuid::Uuid::to_string)).to_string();
        self.read(|conn| list(conn, ROWS, params![ids], outbox_row))
    }

    pub(crate) async fn mark_sent(&self, ids: &[uuid::Uuid]) -> Result<(), StoreError> {
        let session = self.begin().await?;
        session.with(|conn| {
            forget_sent(conn, ids).and_then(|()| conn.execute_batch("COMMIT")).map_err(|error| classify(&error))
        })?
    }
}

pub(super) fn insert(conn: &Connection, schema: &str, row: &OutboxRow) -> rusqlite::Result<()> {
    conn.prepare_cached(INSERT)?.execute(params![
        row.id.to_string(),
        schema,
        row.saga_id.to_string(),
        row.event_type,
        row.record.topic,
        row.record.value,
        columns::headers(&row.record.headers),
        columns::span_context(row),
        micros(now())
    ])?;
    Ok(())
}

pub(super) fn forget_sent(conn: &Connection, ids: &[uuid::Uuid]) -> rusqlite::Result<()> {
    for id in ids {
        conn.prepare_cached(SENT)?.execute(params![id.to_string()])?;
    }
    Ok(())
}

fn unsent(row: &Row<'_>) -> Read<Unsent> {
    Ok(Unsent {
        seq: row.get(0)?,
        id: read_uuid(&row.get::<_, String>(1)?)?,
        saga_id: columns::read_saga_id(&row.get::<_, String>(2)?)?,
        young: row.get(3)?,
    })
}

fn outbox_row(row: &Row<'_>) -> Read<OutboxRow> {
    let id = read_uuid(&row.get::<_, String>(0)?)?;
    let (context, created_at): (Option<String>, _) = (row.get(6)?, time(row.get(7)?)?);
    let headers: String = row.get(5)?;
    let (saga_id, event_type, topic, payload): (String, _, _, _) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
    Ok(columns::outbox_row(id, &saga_id, event_type, topic, payload, (&headers, context.as_deref()), created_at)?)
}
