//! The end of a transaction on PostgreSQL: all changes and COMMIT in one round trip.

use futures::{FutureExt, TryFutureExt};
use saga_core::store::{Changes, Committed, NewArrival, OutboxRow, Progress, StoreError, TimerKind};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    call::{Call, column, one},
    error::{At, Failed, classify},
    outbox::SENT,
    parked,
    pipeline::in_order,
    session::Session,
    statement::{Param, refs},
    time::{Micros, seconds},
};
use crate::{columns, deferred::Write};

/// Finds each row through the index, whatever the table's size was when the plan was made. The transaction has inserted
/// or locked these rows, so they do not move.
const MARKS: &str = "UPDATE saga_barrier SET mark = c.mark, effect_key = coalesce(c.effect_key, saga_barrier.effect_key), \
        round = coalesce(c.round, saga_barrier.round) FROM ( \
        SELECT b.at, k.mark, k.effect_key, k.round \
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[]) \
            AS k(saga_id, step, op, mark, effect_key, round), \
        LATERAL (SELECT ctid AS at FROM saga_barrier b \
            WHERE b.saga_id = k.saga_id AND b.step = k.step AND b.op = k.op OFFSET 0) b) c \
    WHERE saga_barrier.ctid = c.at";
const ARRIVED: &str = "INSERT INTO saga_arrival (saga_id, step, op, event_type, version, cause, data, partly_compensated) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[], $7::bytea[], $8::boolean[]) \
    ON CONFLICT (saga_id, step, op, event_type) DO NOTHING";
/// Nothing reads the data of a join that has ended.
const FORGET_DATA: &str = "UPDATE saga_arrival SET data = '' FROM ( \
        SELECT a.at FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k(saga_id, step, op), \
        LATERAL (SELECT ctid AS at FROM saga_arrival a \
            WHERE a.saga_id = k.saga_id AND a.step = k.step AND a.op = k.op OFFSET 0) a) c \
    WHERE saga_arrival.ctid = c.at";
/// Before [`ENDED`]: a part that arrives meanwhile has its row first and the saga's progress second. `saga_id` is compared with the array
/// as well, so that the index is searched instead of scanned.
const CLOSE: &str = "UPDATE saga_barrier SET mark = 'null' FROM ( \
        SELECT b.saga_id, b.step, b.op FROM (SELECT DISTINCT k.saga_id FROM unnest($1::uuid[]) AS k(saga_id) ORDER BY 1) k, \
        LATERAL (SELECT * FROM saga_barrier b WHERE b.saga_id = k.saga_id AND b.op = 'action' AND b.mark = 'waiting' \
            ORDER BY b.step FOR UPDATE) b) c \
    WHERE saga_barrier.saga_id = ANY($1) AND saga_barrier.saga_id = c.saga_id AND saga_barrier.step = c.step AND saga_barrier.op = c.op";
const FAILED: &str = "INSERT INTO saga_failed_compensation \
    (saga_id, step, event_id, topic, topic_partition, topic_offset, key, value, headers, attempts, failed_at, reason) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::bytea[], $8::bytea[], \
        $9::text[], $10::bigint[], $11::timestamptz[], $12::text[]) ORDER BY 1, 2 \
    ON CONFLICT (saga_id, step) DO NOTHING";
const OUTBOX: &str = "INSERT INTO saga_outbox \
    (id, aggregatetype, aggregateid, type, topic, payload, headers, tracingspancontext, created_at) \
    SELECT r.id, $1, r.saga, r.type, r.topic, r.payload, r.headers, r.context, clock_timestamp() \
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[]) \
    AS r(id, saga, type, topic, payload, headers, context)";
/// Skips a timer that is firing: waiting for it could end in a deadlock. The timer of a join finds the join's row changed; the
/// handler of another deadline reads the row that ends the wait, and locks it.
const DISARM: &str = "DELETE FROM saga_timer WHERE ctid = ANY(ARRAY( \
    SELECT t.at FROM unnest($1::uuid[], $2::text[], $3::text[]) AS d(saga_id, step, kind), LATERAL ( \
        SELECT ctid AS at FROM saga_timer t WHERE t.saga_id = d.saga_id \
            AND (d.step IS NULL OR t.step = d.step) AND (d.kind IS NULL OR t.kind = d.kind) \
        FOR UPDATE SKIP LOCKED) t))";
const ARM: &str = "INSERT INTO saga_timer (saga_id, step, kind, due, traceparent, tracestate) \
    SELECT t.saga, t.step, t.kind, now() + make_interval(secs => t.wait), t.traceparent, t.tracestate \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::float8[], $5::text[], $6::text[]) \
    AS t(saga, step, kind, wait, traceparent, tracestate) \
    WHERE t.kind = 'step' OR NOT EXISTS ( \
        SELECT FROM saga_progress p WHERE p.saga_id = t.saga AND p.ended_at IS NOT NULL OFFSET 0) \
    ORDER BY 1, 2, 3 ON CONFLICT (saga_id, step, kind) DO NOTHING";
/// Returns the sagas that had not begun before. Rows are locked in the order of their saga ids.
const BEGUN: &str = "INSERT INTO saga_progress (saga_id, begun_at) \
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) ORDER BY 1 \
    ON CONFLICT (saga_id) DO UPDATE SET begun_at = excluded.begun_at WHERE saga_progress.begun_at IS NULL \
    RETURNING saga_id, begun_at";
const ENDED: &str = "INSERT INTO saga_progress (saga_id, ended_at) \
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) ORDER BY 1 \
    ON CONFLICT (saga_id) DO UPDATE SET ended_at = excluded.ended_at WHERE saga_progress.ended_at IS NULL \
    RETURNING saga_id, begun_at";
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[OUTBOX, DISARM, ARM, MARKS, ARRIVED, FORGET_DATA, CLOSE, FAILED, BEGUN, ENDED];

impl Session {
    /// Sends what handlers have left to be sent, writes the changes and commits.
    pub(crate) async fn commit(
        self,
        schema: &str,
        changes: &Changes,
        writes: Vec<Write>,
    ) -> Result<Committed, StoreError> {
        let groups = self.grouped(writes)?;
        let writes = self.writes(&groups).await?;
        let calls = calls(&schema, changes);
        let mut statements = Vec::with_capacity(calls.len());
        for call in &calls {
            statements.push((self.prepared(call.sql).await?, refs(&call.params)));
        }
        let client = self.client();
        let (params, of_handlers) = (writes.params(), writes.len());
        let mut all = Vec::with_capacity(of_handlers + calls.len() + 1);
        all.extend(writes.execute(client, &params).map(|write| write.map_ok(|()| Vec::new()).boxed()));
        for ((prepared, params), call) in statements.iter().zip(&calls) {
            all.push(if returns_rows(call) {
                client.query(&prepared.statement, params).map_err(Failed::from).boxed()
            } else {
                client.execute(&prepared.statement, params).map_ok(|_| Vec::new()).map_err(Failed::from).boxed()
            });
        }
        // In a failed transaction COMMIT rolls back and reports success. A statement before it reports the failure.
        let commit = client.batch_execute(if all.is_empty() { "SELECT 1; COMMIT" } else { "COMMIT" });
        all.push(commit.map_ok(|()| Vec::new()).map_err(|error| Failed { error, at: At::Commit }).boxed());
        let answers = self.exchange(in_order(all)).await?;
        self.closed();
        let mut committed = Committed::default();
        for (call, rows) in calls.iter().zip(&answers[of_handlers..]) {
            match call.sql {
                BEGUN => committed.begun = rows.len() as u64,
                ENDED => committed.ended = progress(rows)?,
                _ => {}
            }
        }
        Ok(committed)
    }
}

/// Whether the statement's rows are read.
fn returns_rows(call: &Call<'_>) -> bool {
    [BEGUN, ENDED].contains(&call.sql)
}

/// The sagas that had begun.
fn progress(rows: &[Row]) -> Result<Vec<Progress>, StoreError> {
    let mut list = Vec::with_capacity(rows.len());
    for row in rows {
        let begun_at: Option<Micros> = row.try_get(1).map_err(|error| classify(&error))?;
        if let Some(begun_at) = begun_at {
            let saga_id = row.try_get::<_, Uuid>(0).map_err(|error| classify(&error))?.into();
            list.push(Progress { saga_id, at: begun_at.time()? });
        }
    }
    Ok(list)
}

fn calls<'a>(schema: &'a &'a str, changes: &'a Changes) -> Vec<Call<'a>> {
    let Changes { marks, arrivals, close, outbox, sent, failed, park, arm, disarm, begun, ended } = changes;
    let mut calls = Vec::new();
    let mut add = |needed: bool, sql: &'static str, params: &dyn Fn() -> Vec<Param<'a>>| {
        if needed {
            calls.push(Call { sql, params: params() });
        }
    };
    add(!marks.is_empty(), MARKS, &|| {
        vec![
            column(marks, |c| c.saga_id.as_uuid()),
            column(marks, |c| c.step),
            column(marks, |c| columns::op(c.op)),
            column(marks, |c| columns::mark(c.mark)),
            column(marks, |c| c.effect_key),
            column(marks, |c| c.round.map(i64::from)),
        ]
    });
    add(!arrivals.is_empty(), ARRIVED, &|| {
        vec![
            column(arrivals, |a| a.saga_id.as_uuid()),
            column(arrivals, |a| a.step),
            column(arrivals, |a| columns::op(a.op)),
            column(arrivals, |a| a.arrival.cause.event_type.as_str()),
            column(arrivals, |a| i64::from(a.arrival.version)),
            column(arrivals, |a| a.arrival.cause.id),
            column(arrivals, |a| a.arrival.data.as_slice()),
            column(arrivals, |a| a.arrival.partly_compensated),
        ]
    });
    add(!failed.is_empty(), FAILED, &|| {
        vec![
            column(failed, |f| f.saga_id.as_uuid()),
            column(failed, |f| f.step),
            column(failed, |f| columns::clean(&f.event_id).into_owned()),
            column(failed, |f| &*f.record.topic),
            column(failed, |f| f.record.partition),
            column(failed, |f| f.record.offset),
            column(failed, |f| f.record.key.as_deref()),
            column(failed, |f| f.record.value.as_deref()),
            column(failed, |f| columns::headers(&f.record.headers)),
            column(failed, |f| i64::from(f.attempts)),
            column(failed, |f| Micros::from(f.failed_at)),
            column(failed, |f| columns::clean(&f.reason).into_owned()),
        ]
    });
    let is_any_last = arrivals.iter().any(|arrival| arrival.is_last);
    add(is_any_last, FORGET_DATA, &|| {
        let ended: Vec<&NewArrival> = arrivals.iter().filter(|arrival| arrival.is_last).collect();
        vec![column(&ended, |a| a.saga_id.as_uuid()), column(&ended, |a| a.step), column(&ended, |a| columns::op(a.op))]
    });
    add(!close.is_empty(), CLOSE, &|| vec![column(close, |saga| saga.as_uuid())]);
    add(!outbox.is_empty(), OUTBOX, &|| outbox_params(schema, outbox));
    add(!sent.is_empty(), SENT, &|| vec![one(sent.as_slice())]);
    add(!disarm.is_empty(), DISARM, &|| {
        vec![
            column(disarm, |d| d.saga_id.as_uuid()),
            column(disarm, |d| d.step),
            column(disarm, |d| d.kind.map(TimerKind::name)),
        ]
    });
    add(!arm.is_empty(), ARM, &|| {
        vec![
            column(arm, |t| t.saga_id.as_uuid()),
            column(arm, |t| t.step),
            column(arm, |t| t.kind.name()),
            column(arm, |t| seconds(t.after)),
            column(arm, |t| t.trace.traceparent.as_deref()),
            column(arm, |t| t.trace.tracestate.as_deref()),
        ]
    });
    for (sql, list) in [(BEGUN, begun), (ENDED, ended)] {
        add(!list.is_empty(), sql, &|| {
            vec![column(list, |p| p.saga_id.as_uuid()), column(list, |p| Micros::from(p.at))]
        });
    }
    calls.extend(parked::calls(park));
    calls
}

fn outbox_params<'a>(schema: &'a &'a str, rows: &'a [OutboxRow]) -> Vec<Param<'a>> {
    vec![
        one(*schema),
        column(rows, |r| r.id),
        column(rows, |r| r.saga_id.to_string()),
        column(rows, |r| r.event_type.as_str()),
        column(rows, |r| &*r.record.topic),
        column(rows, |r| r.record.value.as_deref()),
        column(rows, |r| columns::headers(&r.record.headers)),
        column(rows, columns::span_context),
    ]
}
