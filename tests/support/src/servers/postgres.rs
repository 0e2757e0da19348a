//! PostgreSQL in a container.

use std::sync::LazyLock;

use anyhow::{Result, anyhow};
use testcontainers::{ImageExt, core::WaitFor};

use crate::servers::{Server, docker};

/// What it says when it serves: on standard output for the server that only makes the database, then on standard error.
const READY: &str = "database system is ready to accept connections";
/// The port inside of the container.
const INSIDE: u16 = 5432;

/// The URL of the one that tests share.
pub(crate) fn shared() -> Result<String> {
    static SHARED: LazyLock<Result<(docker::Container, String), String>> =
        LazyLock::new(|| docker::wait(create()).map_err(|error| format!("{error:#}")));
    SHARED.as_ref().map(|(_, url)| url.clone()).map_err(|error| anyhow!(error.clone()))
}

async fn create() -> Result<(docker::Container, String)> {
    let ready = [WaitFor::message_on_stdout(READY), WaitFor::message_on_stderr(READY)];
    let container = docker::start(Server::Postgres, (INSIDE, None), &ready, |request| {
        request
            .with_env_var("POSTGRES_USER", "saga")
            .with_env_var("POSTGRES_PASSWORD", "saga")
            .with_env_var("POSTGRES_DB", "saga")
            // Nobody reads these databases after a crash of the machine.
            .with_cmd(["postgres", "-c", "max_connections=200", "-c", "fsync=off"])
    })
    .await?;
    let port = container.get_host_port_ipv4(INSIDE).await?;
    Ok((container, format!("postgres://saga:saga@127.0.0.1:{port}/saga")))
}
