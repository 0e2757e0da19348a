//! The end of a transaction on SQLite.

use rusqlite::{Connection, OptionalExtension, params};
use saga_core::{
    barrier::Arrival,
    event::SagaId,
    store::{Changes, Committed, Disarm, NewArrival, Progress, StoreError, TimerKind},
};

use super::{
    columns::{in_micros, micros, time},
    error::{classify, classify_handlers},
    outbox, parked,
};
use crate::columns;

const MARK: &str = "UPDATE saga_barrier SET mark = ?4, effect_key = coalesce(?5, effect_key), round = coalesce(?6, round) \
    WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const ARRIVED: &str = "INSERT INTO saga_arrival (saga_id, step, op, event_type, version, cause, data, partly_compensated, arrived_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, unixepoch() * 1000000) ON CONFLICT DO NOTHING";
const FAILED: &str = "INSERT INTO saga_failed_compensation (saga_id, step, event_id, topic, topic_partition, topic_offset, \
    key, value, headers, attempts, failed_at, reason, recorded_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, unixepoch() * 1000000) ON CONFLICT DO NOTHING";
const FORGET_DATA: &str = "UPDATE saga_arrival SET data = x'' WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const CLOSE: &str = "UPDATE saga_barrier SET mark = 'null' WHERE saga_id = ?1 AND op = 'action' AND mark = 'waiting'";
const DISARM: &str = "DELETE FROM saga_timer \
    WHERE saga_id = ?1 AND (?2 IS NULL OR step = ?2) AND (?3 IS NULL OR kind = ?3)";
const ARM: &str = "INSERT INTO saga_timer (saga_id, step, kind, due, traceparent, tracestate) SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
    WHERE ?3 = 'step' OR NOT EXISTS (SELECT 1 FROM saga_progress WHERE saga_id = ?1 AND ended_at IS NOT NULL) \
    ON CONFLICT DO NOTHING";
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

/// Number of sagas that have begun, and the begin of those that have ended.
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
        let (op, mark) = (columns::op(change.op), columns::mark(change.mark));
        let key = change.effect_key.map(|key| key.to_string());
        conn.prepare_cached(MARK)?.execute(params![
            change.saga_id.to_string(),
            change.step,
            op,
            mark,
            key,
            change.round
        ])?;
    }
    for NewArrival { saga_id, step, op, arrival: Arrival { cause, version, data, partly_compensated }, is_last } in
        &changes.arrivals
    {
        conn.prepare_cached(ARRIVED)?.execute(params![
            saga_id.to_string(),
            step,
            columns::op(*op),
            cause.event_type,
            version,
            cause.id.to_string(),
            data,
            partly_compensated
        ])?;
        if *is_last {
            conn.prepare_cached(FORGET_DATA)?.execute(params![saga_id.to_string(), step, columns::op(*op)])?;
        }
    }
    for failed in &changes.failed {
        let record = &failed.record;
        conn.prepare_cached(FAILED)?.execute(params![
            failed.saga_id.to_string(),
            failed.step,
            failed.event_id,
            record.topic.as_ref(),
            record.partition,
            record.offset,
            record.key,
            record.value,
            columns::headers(&record.headers),
            failed.attempts,
            micros(failed.failed_at),
            columns::clean(&failed.reason)
        ])?;
    }
    for saga_id in &changes.close {
        conn.prepare_cached(CLOSE)?.execute(params![saga_id.to_string()])?;
    }
    for row in &changes.outbox {
        outbox::insert(conn, schema, row)?;
    }
    outbox::forget_sent(conn, &changes.sent)?;
    for Disarm { saga_id, step, kind } in &changes.disarm {
        conn.prepare_cached(DISARM)?.execute(params![saga_id.to_string(), step, kind.map(TimerKind::name)])?;
    }
    for timer in &changes.arm {
        conn.prepare_cached(ARM)?.execute(params![
            timer.saga_id.to_string(),
            timer.step,
            timer.kind.name(),
            in_micros(timer.after),
            timer.trace.traceparent,
            timer.trace.tracestate
        ])?;
    }
    changes.park.iter().try_for_each(|change| parked::change(conn, change))
}
