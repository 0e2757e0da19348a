//! Whether what answers hands its server's connections from one client to the next between transactions, as PgBouncer does
//! in transaction mode: then our settings, `search_path` among them, and our prepared statements would be those of others.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{connect::Target, error::classify_connect};
use crate::error::ConnectError;

const REFUSED: &str = "transactions of one connection run on different connections of the server: a pooler in transaction \
     or statement mode stands in between (PgBouncer: pool_mode). Use its session mode, or connect to PostgreSQL itself";

/// Two clients that are connected at a time have a server process each, and keep it. Seen by one client alone, a pooler
/// looks like a server.
pub(super) async fn refuse(target: &Target) -> Result<(), ConnectError> {
    let one = target.connect().await?;
    let other = match target.connect().await {
        Ok(other) => other,
        // Only one is left for us: nobody can say then.
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

/// The server's process that answers.
async fn process(client: &Client, sql: &str) -> Result<Option<String>, ConnectError> {
    let answers = client.simple_query(sql).await.map_err(|error| classify_connect(&error))?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
