//! A PostgreSQL database of a world's own, on the server that all worlds of this process share.

use anyhow::{Context, Result};
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::cleanup;
use crate::{PATIENCE, eventually, postgres_url, servers};

/// The URL of the server, which is started when it is not given.
///
/// # Errors
/// When there is none.
pub async fn server() -> Result<String> {
    tokio::task::spawn_blocking(servers::postgres).await?.context("there is no PostgreSQL")
}

/// Makes an empty database and returns its URL. It is dropped when the process has ended.
///
/// # Errors
/// When the server does not allow it.
pub async fn create(server: &str) -> Result<String> {
    let name = format!("saga_tests_{}", Uuid::new_v4().simple());
    cleanup::register("database", format!("{server} {name}"))?;
    // Two that are made at once disturb each other: both copy the same template.
    eventually(PATIENCE, "a database of our own", async || execute(server, &format!("CREATE DATABASE {name}")).await)
        .await?;
    postgres_url::database(server, &name).context("TEST_DATABASE_URL is not a URL")
}

async fn execute(server: &str, sql: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(server, NoTls).await.context("TEST_DATABASE_URL")?;
    let work = async {
        let done = client.batch_execute(sql).await;
        drop(client);
        done
    };
    let (done, connection) = futures::join!(work, connection);
    done.with_context(|| sql.to_owned())?;
    connection.context("TEST_DATABASE_URL")
}
