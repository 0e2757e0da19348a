//! The framework's tables on PostgreSQL, and how migrations are applied.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use tokio_postgres::{Client, Error, error::SqlState};

use super::{
    DEADLINE,
    connect::Target,
    error::{classify, classify_connect},
};
use crate::{
    error::ConnectError,
    migrate::{self, Migration},
};

/// Time limit of a migration, and of the wait for another process that is migrating.
const MIGRATION: Duration = Duration::from_secs(600);

/// The outbox has the columns that Debezium's outbox event router reads by default, and `topic` for `route.by.field`.
/// The index on `id` serves deletes, the one on `seq` reads a backlog.
const FRAMEWORK: &[Migration] = &[TABLES, PROGRESS, IDENTITY, SUMMARY, STEPS, TIMER_KINDS, ARRIVALS, ROUNDS, FAILED];

const TABLES: Migration = Migration {
    name: "saga/tables",
    sql: "
CREATE TABLE saga_inbox (
    event_id text PRIMARY KEY,
    saga_id uuid NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE saga_barrier (
    saga_id uuid NOT NULL,
    step text NOT NULL,
    op text NOT NULL,
    mark text NOT NULL,
    PRIMARY KEY (saga_id, step, op)
);

CREATE TABLE saga_outbox (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    topic text NOT NULL,
    payload bytea,
    headers text NOT NULL,
    tracingspancontext text,
    created_at timestamptz NOT NULL
);
CREATE INDEX saga_outbox_seq ON saga_outbox (seq);

-- due: when the head of the saga's queue is tried; null for those behind it and for one that is held.
CREATE TABLE saga_parked (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saga_id uuid NOT NULL,
    event_id text NOT NULL,
    topic text NOT NULL,
    topic_partition integer NOT NULL,
    topic_offset bigint NOT NULL,
    key bytea,
    value bytea,
    headers text NOT NULL,
    attempts bigint NOT NULL,
    failed_at timestamptz,
    due timestamptz,
    held boolean NOT NULL,
    reason text NOT NULL,
    UNIQUE (saga_id, event_id)
);
CREATE INDEX saga_parked_due ON saga_parked (due) WHERE due IS NOT NULL;

CREATE TABLE saga_timer (
    saga_id uuid NOT NULL,
    step text NOT NULL,
    due timestamptz NOT NULL,
    traceparent text,
    tracestate text,
    PRIMARY KEY (saga_id, step)
);
CREATE INDEX saga_timer_due ON saga_timer (due);
",
};

/// Written by the participant that publishes the end of its sagas. The index holds the unfinished ones.
const PROGRESS: Migration = Migration {
    name: "saga/progress",
    sql: "
CREATE TABLE saga_progress (
    saga_id uuid PRIMARY KEY,
    begun_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX saga_progress_unfinished ON saga_progress (begun_at) WHERE ended_at IS NULL;
",
};

/// The identity of events, steps and places in queues.
///
/// The barrier alone decides: an event asks for one half of one step of its saga, and that row says what was done and
/// for which event. Processes of earlier versions need the inbox and can admit nothing without it: they wait, and
/// cannot continue this version's work under another key.
///
/// Keys sort by their bytes. The order of a language changes with the C library's version, and a unique index from
/// before accepts duplicates then.
const IDENTITY: Migration = Migration {
    name: "saga/identity",
    sql: r#"
DROP TABLE saga_inbox;

ALTER TABLE saga_barrier
    ALTER COLUMN step TYPE text COLLATE "C",
    ALTER COLUMN op TYPE text COLLATE "C",
    ALTER COLUMN mark TYPE text COLLATE "C",
    ADD COLUMN cause uuid,
    ADD COLUMN cause_type text COLLATE "C",
    ADD COLUMN effect_key uuid,
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();

-- Null in a row of an earlier version, until the program has read the event.
ALTER TABLE saga_parked
    DROP CONSTRAINT saga_parked_saga_id_event_id_key,
    ADD COLUMN step text COLLATE "C",
    ADD COLUMN op text COLLATE "C",
    ADD COLUMN cause uuid,
    ADD CONSTRAINT saga_parked_cause UNIQUE (saga_id, cause);
CREATE INDEX saga_parked_unlabelled ON saga_parked (seq) WHERE cause IS NULL;

ALTER TABLE saga_timer ALTER COLUMN step TYPE text COLLATE "C";
ALTER TABLE saga_migration ALTER COLUMN name TYPE text COLLATE "C";
"#,
};

/// Indexes that start with the figures of parked sagas, however many there are.
const SUMMARY: Migration = Migration {
    name: "saga/summary",
    sql: "
CREATE INDEX saga_parked_held ON saga_parked (saga_id) WHERE held;
CREATE INDEX saga_parked_failed ON saga_parked (failed_at) WHERE failed_at IS NOT NULL AND due IS NOT NULL AND NOT held;
",
};

/// The steps that the participant has declared: their names are keys in the other tables. `triggers`: a JSON list.
const STEPS: Migration = Migration {
    name: "saga/steps",
    sql: r#"CREATE TABLE saga_step (name text COLLATE "C" PRIMARY KEY, triggers text NOT NULL);"#,
};

/// What a timer waits for: `step`, `arrivals` or `saga`. A process of an earlier version can arm nothing from now on: it
/// waits.
const TIMER_KINDS: Migration = Migration {
    name: "saga/timer-kinds",
    sql: r#"
ALTER TABLE saga_timer
    ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'step',
    DROP CONSTRAINT saga_timer_pkey,
    ADD PRIMARY KEY (saga_id, step, kind);
"#,
};

/// What has arrived of joins. The key is the event's type, and not the part's number: a later version may have more parts.
const ARRIVALS: Migration = Migration {
    name: "saga/arrivals",
    sql: r#"
CREATE TABLE saga_arrival (
    saga_id uuid NOT NULL,
    step text COLLATE "C" NOT NULL,
    op text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    cause uuid NOT NULL,
    data bytea NOT NULL,
    arrived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (saga_id, step, op, event_type)
);
"#,
};

/// Steps that run in rounds: a parked event that stands aside waits for its next round, and no other waits for it. The index
/// has what counts as parked.
const ROUNDS: Migration = Migration {
    name: "saga/rounds",
    sql: "
ALTER TABLE saga_barrier ADD COLUMN round bigint NOT NULL DEFAULT 0;
ALTER TABLE saga_parked
    ADD COLUMN round bigint NOT NULL DEFAULT 0,
    ADD COLUMN aside boolean NOT NULL DEFAULT false;
CREATE INDEX saga_parked_waiting ON saga_parked (due)
    WHERE due IS NOT NULL AND (NOT aside OR failed_at IS NOT NULL);
",
};

/// Compensations that failed for good and without which their sagas went on, with what started them. An operator removes a row
/// once what the step did is taken back by other means. An arrival says whether its event follows from one.
const FAILED: Migration = Migration {
    name: "saga/failed-compensations",
    sql: r#"
CREATE TABLE saga_failed_compensation (
    saga_id uuid NOT NULL,
    step text COLLATE "C" NOT NULL,
    event_id text NOT NULL,
    topic text NOT NULL,
    topic_partition integer NOT NULL,
    topic_offset bigint NOT NULL,
    key bytea,
    value bytea,
    headers text NOT NULL,
    attempts bigint NOT NULL,
    failed_at timestamptz NOT NULL,
    reason text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (saga_id, step)
);

ALTER TABLE saga_arrival ADD COLUMN partly_compensated boolean NOT NULL DEFAULT false;
"#,
};

/// Applies missing migrations. An up-to-date database, the usual case, costs one read and no lock.
pub(super) async fn migrate(target: &Target, business: &[Migration]) -> Result<(), ConnectError> {
    let link = target.connect().await?;
    let all = || FRAMEWORK.iter().chain(business);
    let applied = within(DEADLINE, applied(&link.client)).await?;
    migrate::known(applied.iter().map(|(name, _)| name.as_str()), all().map(|migration| migration.name))?;
    let mut missing = false;
    for migration in all() {
        missing |= migrate::pending(migration, find(&applied, migration))?;
    }
    if !missing {
        return Ok(());
    }
    // Processes that start at the same time wait here and then find everything applied. The lock ends with the
    // connection.
    let lock = format!("SET statement_timeout = 0; SELECT pg_advisory_lock(hashtextextended({}, 0))", literal(target));
    within(MIGRATION, link.client.batch_execute(&lock)).await?;
    within(DEADLINE, create_schema(&link.client, target)).await?;
    within(DEADLINE, link.client.batch_execute(migrate::CREATE_TABLE)).await?;
    let applied = within(DEADLINE, self::applied(&link.client)).await?;
    for migration in all() {
        if migrate::pending(migration, find(&applied, migration))? {
            apply(&link.client, migration).await?;
        }
    }
    Ok(())
}

async fn apply(client: &Client, migration: &Migration) -> Result<(), ConnectError> {
    let work = async {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(migration.sql).await?;
        let now = Timestamp::now().to_string();
        client.execute(migrate::INSERT, &[&migration.name, &migration.sql, &now]).await?;
        client.batch_execute("COMMIT").await
    };
    match tokio::time::timeout(MIGRATION, work).await {
        Ok(result) => result.map_err(|error| ConnectError::migration(migration.name, classify(&error))),
        Err(_) => Err(no_answer(MIGRATION)),
    }
}

/// The names of the migrations that were applied, with their texts.
async fn applied(client: &Client) -> Result<Vec<(String, String)>, Error> {
    match client.query("SELECT name, sql FROM saga_migration", &[]).await {
        Ok(rows) => rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect(),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn find<'a>(applied: &'a [(String, String)], migration: &Migration) -> Option<&'a str> {
    applied.iter().find(|(name, _)| name == migration.name).map(|(_, sql)| sql.as_str())
}

/// Looks first: `CREATE SCHEMA IF NOT EXISTS` needs the right to create a schema even if it exists.
async fn create_schema(client: &Client, target: &Target) -> Result<(), Error> {
    let exists = client.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&target.schema]).await?;
    if exists.is_none() {
        client.batch_execute(&format!("CREATE SCHEMA {}", target.quoted_schema())).await?;
    }
    Ok(())
}

/// The name of the lock on a schema's migrations.
fn literal(target: &Target) -> String {
    format!("'saga migrations of {}'", target.schema.replace('\'', "''"))
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, ConnectError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|error| classify_connect(&error)),
        Err(_) => Err(no_answer(limit)),
    }
}

fn no_answer(limit: Duration) -> ConnectError {
    ConnectError::Unavailable(format!("no answer within {} s", limit.as_secs()))
}
