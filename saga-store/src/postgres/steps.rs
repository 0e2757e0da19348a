//! The steps that a participant has declared to PostgreSQL.

use std::time::Duration;

use saga_core::store::{DeclaredStep, StoreError};

use super::{
    Postgres,
    pool::User,
    rows::{list, run},
};
use crate::columns;

const STEPS: &str = "SELECT name, triggers FROM saga_step ORDER BY name";
/// In one order, so that two processes that declare at once do not wait for each other in a circle.
const DECLARE: &str = "
INSERT INTO saga_step (name, triggers)
SELECT s.name, s.triggers FROM unnest($1::text[], $2::text[]) AS s(name, triggers) ORDER BY s.name
ON CONFLICT (name) DO UPDATE SET triggers = excluded.triggers";
/// Asked when a step seems to be renamed, and only then: no index knows a step's rows.
const SAGAS: &str = "
SELECT least($2::bigint, (SELECT count(*) FROM (
    (SELECT saga_id FROM saga_barrier WHERE step = $1::text LIMIT 2 * $2::bigint)
    UNION (SELECT saga_id FROM saga_parked WHERE step = $1::text LIMIT $2::bigint)) AS few))";

/// Less than one exchange with the server may take.
const LONGEST_COUNT: Duration = Duration::from_secs(5);

impl Postgres {
    pub(crate) async fn declared_steps(&self) -> Result<Vec<DeclaredStep>, StoreError> {
        let session = self.session(User::Request).await?;
        let rows = run(&session, STEPS, &[]).await?;
        list(&rows, |row| Ok(columns::declared_step(row.try_get(0)?, row.try_get(1)?)?))
    }

    pub(crate) async fn declare_steps(&self, steps: &[DeclaredStep]) -> Result<(), StoreError> {
        let session = self.session(User::Request).await?;
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        let triggers: Vec<String> = steps.iter().map(columns::triggers).collect();
        run(&session, DECLARE, &[&names, &triggers]).await.map(|_| ())
    }

    pub(crate) async fn sagas_of_step(&self, step: &str) -> Result<u64, StoreError> {
        let session = self.session(User::Request).await?;
        let counted = tokio::time::timeout(LONGEST_COUNT, run(&session, SAGAS, &[&step, &columns::COUNTED])).await;
        // A table that takes longer has many rows, and some of them may be the step's.
        let Ok(rows) = counted else { return Ok(columns::COUNTED.unsigned_abs()) };
        let rows = rows?;
        let sagas = list(&rows, |row| Ok(row.try_get::<_, i64>(0)?.unsigned_abs()))?.pop();
        sagas.ok_or_else(|| StoreError::Broken("the database does not count".into()))
    }
}
