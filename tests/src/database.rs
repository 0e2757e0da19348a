//! A PostgreSQL database of a world's own, on the server that all worlds of this process share.

use anyhow::{Context, Result};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::{eventually, eventually::PATIENCE, janitor};

/// The URL of the server, which is started when it is not given.
///
/// # Errors
/// When there is none.
pub async fn server() -> Result<String> {
    tokio::task::spawn_blocking(saga_live::postgres).await?.context("there is no PostgreSQL")
}

/// Makes an empty database and returns its URL. The janitor drops it.
///
/// # Errors
/// When the server does not allow it.
pub async fn create(server: &str) -> Result<String> {
    let name = format!("saga_tests_{}", Uuid::new_v4().simple());
    janitor::tell("database", format!("{server} {name}"))?;
    // Two that are made at once disturb each other: both copy the same template.
    eventually(PATIENCE, "a database of our own", async || execute(server, &format!("CREATE DATABASE {name}")).await)
        .await?;
    named(server, &name)
}

/// Drops a database, whoever uses it.
///
/// # Errors
/// When the server does not allow it.
pub async fn drop_database(server: &str, name: &str) -> Result<()> {
    execute(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
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

/// The URL with this database in place of its own.
///
/// # Errors
/// When it is no URL.
pub fn named(url: &str, name: &str) -> Result<String> {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let (scheme, rest) = address.split_once("://").context("TEST_DATABASE_URL is not a URL")?;
    let host = rest.split('/').next().unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}/{name}{query}"))
}

/// The URL's host and port.
///
/// # Errors
/// When it is no URL.
pub fn address(url: &str) -> Result<String> {
    let (_, rest) = url.split_once("://").context("TEST_DATABASE_URL is not a URL")?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    Ok(host.rsplit('@').next().unwrap_or_default().to_owned())
}
