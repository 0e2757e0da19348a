//! Opening a connection.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_postgres::{
    CancelToken, Client, Config, NoTls, Socket,
    config::SslMode,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{error::classify_connect, tls, url::PostgresUrl};
use crate::error::ConnectError;

/// Time limit for connecting. A server that hangs accepts connections and says nothing.
const CONNECT: Duration = Duration::from_secs(5);

/// Where to connect, and how.
pub(super) struct Target {
    url: PostgresUrl,
    /// Changes when the server refuses it and its file holds another one.
    password: Mutex<Option<Vec<u8>>>,
    pub(super) schema: String,
    /// Made at first use, because that reads files.
    tls: Mutex<Option<MakeRustlsConnect>>,
}

impl Target {
    pub(super) fn new(mut url: PostgresUrl, schema: &str) -> Self {
        if url.config.get_application_name().is_none() {
            url.config.application_name(schema);
        }
        let password = Mutex::new(url.config.get_password().map(<[u8]>::to_vec));
        Self { url, password, schema: schema.to_owned(), tls: Mutex::default() }
    }

    /// The schema's name, quoted.
    pub(super) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    /// Connects and applies the session's settings.
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

    fn config(&self) -> Config {
        let mut config = self.url.config.clone();
        if let Some(password) = &*self.password.lock().unwrap_or_else(PoisonError::into_inner) {
            config.password(password);
        }
        config
    }

    /// Reads the URL's file again; whether it holds another password than the one that was tried.
    fn finds_another_than(&self, tried: &Config) -> bool {
        let found = self.url.read_again().and_then(|url| Some(url.config.get_password()?.to_vec()));
        let Some(found) = found.filter(|found| tried.get_password() != Some(found)) else { return false };
        tracing::info!("the database refused the password, and its file holds another by now");
        *self.password.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        true
    }

    /// Asks the server to end the connection's statement. Best effort.
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
            tracing::debug!("an abandoned statement could not be ended");
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
        T: MakeTlsConnect<Socket> + Clone,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let tried = self.config();
        let connected = match tried.connect(tls.clone()).await {
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) && self.finds_another_than(&tried) => {
                self.config().connect(tls).await
            }
            other => other,
        };
        let (client, connection) = connected.map_err(|error| classify_connect(&error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database broke");
            }
        });
        let link = Link { client, task };
        link.client.batch_execute(&self.settings()).await.map_err(|error| classify_connect(&error))?;
        Ok(link)
    }

    /// Settings of a session, for statements outside [`Opening`](super::session::Opening)'s transactions too.
    ///
    /// The server's timeout is a little shorter than the client's: a statement that waits too long for a lock ends with
    /// an answer, and one whose client is gone ends at all. Statements are short, so compiling them (JIT) never pays.
    ///
    /// Statements are planned once, and use an index where there is one. By default the server would plan statements
    /// with arrays each time, which costs more than running them on a few events; or it would keep a plan that scans a
    /// whole table, made while the table was small.
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
    /// Closes an idle connection in good order.
    pub(super) fn close(self) {
        drop(self.client);
    }

    /// Cuts the connection at once; the server rolls back its transaction. Dropping it would wait for answers first.
    pub(super) fn cut(self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn message(stream: &mut TcpStream, has_tag: bool) -> std::io::Result<Vec<u8>> {
        if has_tag {
            stream.read_u8().await?;
        }
        let mut body = vec![0; usize::try_from(stream.read_i32().await?).unwrap() - 4];
        stream.read_exact(&mut body).await?;
        Ok(body)
    }

    /// A server that takes one password only.
    async fn serve(mut stream: TcpStream, password: &str) -> std::io::Result<()> {
        message(&mut stream, false).await?;
        stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await?;
        if message(&mut stream, true).await? != [password.as_bytes(), b"\0"].concat() {
            let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0";
            stream
                .write_all(&[b"E", &u32::try_from(fields.len() + 4).unwrap().to_be_bytes()[..], fields].concat())
                .await?;
            return Ok(());
        }
        stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
        loop {
            message(&mut stream, true).await?;
            stream.write_all(b"C\0\0\0\x08SET\0Z\0\0\0\x05I").await?;
        }
    }

    #[tokio::test]
    async fn a_password_that_the_server_refuses_is_looked_for_again_in_its_file() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, "new"));
            }
        });
        let text = |password: &str| format!("postgres://saga:{password}@{addr}/saga?sslmode=disable");
        let file = std::env::temp_dir().join(format!("saga-rotated-{}", uuid::Uuid::new_v4()));
        let url = PostgresUrl::parse(&text("old")).unwrap().unwrap();
        let target = Target::new(PostgresUrl { file: Some(file.clone()), ..url }, "saga");

        for not_yet in [None, Some(text("old")), Some(text("older")), Some("nonsense".to_owned())] {
            if let Some(text) = not_yet {
                std::fs::write(&file, text).unwrap();
            }
            let refused = target.connect().await.map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains("28P01"), "{refused}");
        }
        std::fs::write(&file, text("new") + "\n").unwrap();
        assert!(target.connect().await.is_ok());
        std::fs::remove_file(&file).unwrap();
        assert!(target.connect().await.is_ok(), "it is remembered");
    }
}
