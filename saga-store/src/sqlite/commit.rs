//! The end of a transaction on SQLite.

use rusqlite::{Connection, OptionalExtension, params};
use saga_core::{
    event::SagaId,
    store::{Changes, Committed, OutboxRow, ParkChange, Parking, Progress, StoreError},
};

use super::{
    error::{classify, classify_handlers},
    schema::{in_micros, micros, now, time},
};
use crate::marks;

const MARK: &str = "UPDATE saga_barrier SET mark = ?4 WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const OUTBOX: &str = "INSERT INTO saga_outbox \
    (id, aggregatetype, aggregateid, type, topic, payload, headers, tracingspancontext, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const SENT: &str = "DELETE FROM saga_outbox WHERE id = ?1";
const DISARM: &str = "DELETE FROM saga_timer WHERE saga_id = ?1";
const ARM: &str = "INSERT INTO saga_timer (saga_id, step, due, traceparent, tracestate) VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT DO NOTHING";
const HEAD: &str = "SELECT min(seq) FROM saga_parked WHERE saga_id = ?1";
/// The same event from the same place in its topic is a redelivery and changes nothing; from elsewhere it was published once
/// more, and what it says now counts.
const KNOWN: &str = "SELECT seq, topic = ?3 AND topic_partition = ?4 AND topic_offset = ?5, due IS NULL FROM saga_parked \
    WHERE saga_id = ?1 AND cause = ?2";
const PUT: &str = "INSERT OR REPLACE INTO saga_parked (seq, saga_id, cause, event_id, step, op, topic, topic_partition, \
    topic_offset, key, value, headers, attempts, failed_at, held, reason, due) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
const RETRY: &str = "UPDATE saga_parked SET attempts = ?2, due = ?3, failed_at = ?4, reason = ?5 WHERE seq = ?1 AND (op = ?6 OR step = '') AND NOT held";
const HOLD: &str =
    "UPDATE saga_parked SET held = true, due = NULL, reason = ?2 WHERE seq = ?1 AND (op = ?3 OR step = '')";
const REMOVE: &str = "DELETE FROM saga_parked WHERE seq = ?1 AND (op = ?2 OR step = '') RETURNING saga_id";
/// Due since 1970, so that it is due by any clock.
const PROMOTE: &str = "UPDATE saga_parked SET due = 0 WHERE NOT held AND due IS NULL \
    AND seq = (SELECT min(seq) FROM saga_parked WHERE saga_id = ?1)";

const BEGUN: &str = "INSERT INTO saga_progress (saga_id, begun_at) VALUES (?1, ?2) \
    ON CONFLICT DO UPDATE SET begun_at = excluded.begun_at WHERE begun_at IS NULL";
const ENDED: &str = "INSERT INTO saga_progress (saga_id, ended_at) VALUES (?1, ?2) \
    ON CONFLICT DO UPDATE SET ended_at = excluded.ended_at WHERE ended_at IS NULL RETURNING begun_at";

pub(super) fn commit(conn: &Connection, schema: &str, changes: &Changes) -> Result<Committed, StoreError> {
    let apply = || {
        apply(conn, schema, changes)?;
        progress(conn, changes)
    };
    let (begun, ended) = apply().map_err(|error| classify(&error))?;
    conn.execute_batch("COMMIT").map_err(|error| classify_handlers(&error))?;
    let begun_at = |(saga_id, at)| Ok(Progress { saga_id, at: time(at)? });
    Ok(Committed { begun, ended: ended.into_iter().map(begun_at).collect::<Result<_, StoreError>>()? })
}

/// How many have begun, and when those that have ended began.
fn progress(conn: &Connection, changes: &Changes) -> rusqlite::Result<(u64, Vec<(SagaId, i64)>)> {
    let (mut begun, mut ended) = (0, Vec::new());
    for Progress { saga_id, at } in &changes.begun {
        begun += conn.prepare_cached(BEGUN)?.execute(params![saga_id.to_string(), micros(*at)])? as u64;
    }
    for Progress { saga_id, at } in &changes.ended {
        let mut statement = conn.prepare_cached(ENDED)?;
        let row = statement.query_row(params![saga_id.to_string(), micros(*at)], |row| row.get::<_, Option<i64>>(0));
        ended.extend(row.optional()?.flatten().map(|at| (*saga_id, at)));
    }
    Ok((begun, ended))
}

fn apply(conn: &Connection, schema: &str, changes: &Changes) -> rusqlite::Result<()> {
    for change in &changes.marks {
        let (op, mark) = (marks::op(change.op), marks::mark(change.mark));
        conn.prepare_cached(MARK)?.execute(params![change.saga_id.to_string(), change.step, op, mark])?;
    }
    for row in &changes.outbox {
        insert_outbox(conn, schema, row)?;
    }
    forget_sent(conn, &changes.sent)?;
    for saga_id in &changes.disarm {
        conn.prepare_cached(DISARM)?.execute(params![saga_id.to_string()])?;
    }
    for timer in &changes.arm {
        conn.prepare_cached(ARM)?.execute(params![
            timer.saga_id.to_string(),
            timer.step,
            in_micros(timer.after),
            timer.trace.traceparent,
            timer.trace.tracestate
        ])?;
    }
    changes.park.iter().try_for_each(|change| park(conn, change))
}

fn insert_outbox(conn: &Connection, schema: &str, row: &OutboxRow) -> rusqlite::Result<()> {
    conn.prepare_cached(OUTBOX)?.execute(params![
        row.id.to_string(),
        schema,
        row.saga_id.to_string(),
        row.event_type,
        row.record.topic,
        row.record.value,
        marks::headers(&row.record.headers),
        marks::span_context(row),
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

fn park(conn: &Connection, change: &ParkChange) -> rusqlite::Result<()> {
    match change {
        ParkChange::Append(parking) => append(conn, parking)?,
        // `PUT` replaces the action's row by its place, and the compensation's own by its cause.
        ParkChange::Overtake { seq, by } => put(conn, Some(*seq), by, false)?,
        ParkChange::Retry { at, attempts, pause, failed_at, reason } => {
            let (due, failed_at) = (in_micros(*pause), micros(*failed_at));
            let values = params![at.seq, attempts, due, failed_at, marks::clean(reason), marks::op(at.op)];
            conn.prepare_cached(RETRY)?.execute(values)?;
        }
        ParkChange::Block { at, reason } => {
            conn.prepare_cached(HOLD)?.execute(params![at.seq, marks::clean(reason), marks::op(at.op)])?;
        }
        ParkChange::Remove { at } => {
            let gone = params![at.seq, marks::op(at.op)];
            let saga: Option<String> = conn.prepare_cached(REMOVE)?.query_row(gone, |row| row.get(0)).optional()?;
            if let Some(saga) = saga {
                conn.prepare_cached(PROMOTE)?.execute(params![saga])?;
            }
        }
    }
    Ok(())
}

fn append(conn: &Connection, parking: &Parking) -> rusqlite::Result<()> {
    let (saga, cause, record) = (parking.saga_id.to_string(), parking.cause.to_string(), &parking.record);
    let head: Option<i64> = conn.prepare_cached(HEAD)?.query_row(params![saga], |row| row.get(0))?;
    let place = params![saga, cause, record.topic.as_ref(), record.partition, record.offset];
    let known: Option<(i64, bool, bool)> =
        conn.prepare_cached(KNOWN)?.query_row(place, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    match known {
        Some((_, true, _)) => Ok(()),
        Some((seq, false, waits)) => put(conn, Some(seq), parking, waits && head != Some(seq)),
        None => put(conn, None, parking, head.is_some()),
    }
}

fn put(conn: &Connection, seq: Option<i64>, parking: &Parking, waits: bool) -> rusqlite::Result<()> {
    let record = &parking.record;
    conn.prepare_cached(PUT)?.execute(params![
        seq,
        parking.saga_id.to_string(),
        parking.cause.to_string(),
        parking.event_id,
        parking.step,
        marks::op(parking.op),
        record.topic.as_ref(),
        record.partition,
        record.offset,
        record.key,
        record.value,
        marks::headers(&record.headers),
        parking.attempts,
        parking.failed_at.map(micros),
        parking.blocked,
        marks::clean(&parking.reason),
        (!waits && !parking.blocked).then(|| in_micros(parking.pause)),
    ])?;
    Ok(())
}
