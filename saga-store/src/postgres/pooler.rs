//! Detecting a pooler that assigns server connections per transaction, as PgBouncer does in transaction mode. Our
//! session settings, `search_path` among them, and our prepared statements would end up with other clients.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{connect::Target, error::classify_connect};
use crate::error::ConnectError;

const REFUSED: &str = "transactions of one connection run on different connections of the server: a pooler in transaction \
     or statement mode stands in between (PgBouncer: pool_mode). Use its session mode, or connect to PostgreSQL itself";

/// Compares the server processes of two clients that are connected at once: each must have its own and keep it. A
/// pooler with one client looks like a server.
pub(super) async fn refuse(target: &Target) -> Result<(), ConnectError> {
    let one = target.connect().await?;
    let other = match target.connect().await {
        Ok(other) => other,
        // Only one connection is free, so there is nothing to compare.
        Err(ConnectError::Full(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let before = process(&one.client, "SELECT pg_backend_pid()").await?;
    let others = process(&other.client, "BEGIN; SELECT pg_backend_pid()").await?;
    if before == others || before != process(&one.client, "SELECT pg_backend_pid()").await? {
        return Err(ConnectError::misconfigured(REFUSED));
    }
    Ok(())
}

/// The id of the server process that answers.
async fn process(client: &Client, sql: &str) -> Result<Option<String>, ConnectError> {
    let answers = client.simple_query(sql).await.map_err(|error| classify_connect(&error))?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
