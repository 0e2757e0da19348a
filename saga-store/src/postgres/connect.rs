//! How a connection comes about.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_postgres::{
    CancelToken, Client, Config, NoTls, Socket,
    config::SslMode,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{error::classify_connect, tls};
use crate::{error::ConnectError, url::PostgresUrl};

/// How long a connection may take to be ready, from the first packet on: a server that hangs accepts it and says nothing.
const CONNECT: Duration = Duration::from_secs(5);

/// Where to connect, and how.
pub(super) struct Target {
    url: PostgresUrl,
    pub(super) schema: String,
    /// Made when it is first needed, since that reads files.
    tls: Mutex<Option<MakeRustlsConnect>>,
}

impl Target {
    pub(super) fn new(mut url: PostgresUrl, schema: &str) -> Self {
        if url.config.get_application_name().is_none() {
            url.config.application_name(schema);
        }
        Self { url, schema: schema.to_owned(), tls: Mutex::default() }
    }

    /// The schema's name, quoted.
    pub(super) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    /// Connects and sets the session up.
    pub(super) async fn connect(&self) -> Result<Link, ConnectError> {
        let connecting = async {
            if self.url.config.get_ssl_mode() == SslMode::Disable {
                self.open(NoTls).await
            } else {
                self.open(self.tls()?).await
            }
        };
        let connected = tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Unavailable("it does not answer to a connection".into())));
        connected.map_err(|error| match error {
            ConnectError::Unavailable(why) => ConnectError::Unavailable(format!("{}: {why}", self.url.addresses())),
            ConnectError::Full(why) => ConnectError::Full(format!("{}: {why}", self.url.addresses())),
            other => other,
        })
    }

    /// Asks the server to end the statement that runs on a connection. Nothing depends on its success.
    pub(super) async fn cancel(&self, token: CancelToken) {
        let asking = async {
            match self.url.config.get_ssl_mode() {
                SslMode::Disable => token.cancel_query(NoTls).await.is_ok(),
                _ => match self.tls() {
                    Ok(tls) => token.cancel_query(tls).await.is_ok(),
                    Err(_) => false,
                },
            }
        };
        if !tokio::time::timeout(CONNECT, asking).await.unwrap_or(false) {
            tracing::debug!("a statement that nobody waits for could not be ended");
        }
    }

    fn tls(&self) -> Result<MakeRustlsConnect, ConnectError> {
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if made.is_none() {
            *made = Some(tls::connector(self.url.verify, self.url.root_cert.as_deref())?);
        }
        made.clone().ok_or_else(|| ConnectError::misconfigured("TLS cannot be set up"))
    }

    async fn open<T>(&self, tls: T) -> Result<Link, ConnectError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let config: &Config = &self.url.config;
        let (client, connection) = config.connect(tls).await.map_err(|error| classify_connect(&error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database broke");
            }
        });
        let link = Link { client, task };
        link.client.batch_execute(&self.settings()).await.map_err(|error| classify_connect(&error))?;
        Ok(link)
    }

    /// Outside of [`Opening`](super::session::Opening)'s transactions, a statement is one of its own, as isolated as they are.
    ///
    /// The server gives up a little before the client does, so that a statement that waits for a lock too long ends
    /// with an answer, and one whose client is gone ends at all. Statements are short: compiling them (JIT) never pays.
    ///
    /// They are planned once, and by index where there is one. Left alone, the server plans those that take arrays again
    /// each time, which costs more than running them on a few events; or it keeps a plan that reads the whole table,
    /// made while the table was small, and gets slower with every saga.
    fn settings(&self) -> String {
        format!(
            "SET search_path TO {}; SET statement_timeout = '9s'; SET idle_in_transaction_session_timeout = '5s'; \
             SET default_transaction_isolation = 'read committed'; \
             SET client_min_messages = warning; SET jit = off; SET enable_seqscan = off; \
             SET plan_cache_mode = force_generic_plan",
            self.quoted_schema()
        )
    }
}

/// A connection, and the task that drives it.
pub(super) struct Link {
    pub(super) client: Client,
    task: JoinHandle<()>,
}

impl Link {
    /// Ends an idle connection, as one takes one's leave.
    pub(super) fn close(self) {
        drop(self.client);
    }

    /// Cuts the connection at once, whatever it waits for; the server rolls back what is open. Just dropping it would
    /// first wait for the answers that are due.
    pub(super) fn cut(self) {
        self.task.abort();
    }
}
