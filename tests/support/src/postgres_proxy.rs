//! A proxy for PostgreSQL that reads its messages, so that a test may make one query fail and let the others pass.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use crate::postgres_url;

/// What becomes of a simple query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes to the server.
    Pass,
    /// It never reaches the server, and is answered with an error of this SQLSTATE, outside a transaction.
    Fail(&'static str),
    /// This goes to the server in its place.
    Instead(&'static str),
}

type Judge = dyn FnMut(&str) -> Fate + Send;

/// Forwards connections from an address of its own to a server, without TLS.
pub struct PostgresProxy {
    url: String,
    judge: Arc<Mutex<Box<Judge>>>,
}

impl PostgresProxy {
    /// A proxy to the server of this URL.
    ///
    /// # Errors
    /// When there is no port to be had, or the URL is none.
    pub async fn to(url: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let not_a_url = std::io::ErrorKind::InvalidInput;
        let server = postgres_url::address(url).ok_or(not_a_url)?.to_owned();
        let url = postgres_url::at(url, listener.local_addr()?).ok_or(not_a_url)?;
        let sign = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{sign}sslmode=disable");
        let judge: Arc<Mutex<Box<Judge>>> = Arc::new(Mutex::new(Box::new(|_| Fate::Pass)));
        let judges = judge.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&server).await {
                    tokio::spawn(carry(client, server, judges.clone()));
                }
            }
        });
        Ok(Self { url, judge })
    }

    /// The server's URL by way of this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on, this decides on every simple query, by its text.
    pub fn judge(&self, judge: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.judge.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(judge);
    }
}

/// Answers that are due to the client, in the order in which it asked.
enum Due {
    /// The server's, up to the next `ReadyForQuery`.
    Servers,
    /// Our own.
    Ours(Vec<u8>),
}

async fn carry(client: TcpStream, server: TcpStream, judge: Arc<Mutex<Box<Judge>>>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (ask, asked) = mpsc::unbounded_channel();
    tokio::select! {
        _ = questions(from_client, to_server, judge, ask) => {}
        _ = answers(from_server, to_client, asked) => {}
    }
}

/// From the client to the server. The first messages have no type: what a client asks before it starts, and its start.
async fn questions(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    judge: Arc<Mutex<Box<Judge>>>,
    ask: mpsc::UnboundedSender<Due>,
) -> std::io::Result<()> {
    const VERSION_3: [u8; 2] = [0, 3];
    loop {
        let (_, body) = message(&mut client, false).await?;
        server.write_all(&body).await?;
        if body.get(4..6) == Some(&VERSION_3) {
            break;
        }
    }
    let _ = ask.send(Due::Servers);
    loop {
        let (kind, whole) = message(&mut client, true).await?;
        let fate = match kind {
            b'Q' => {
                let text = String::from_utf8_lossy(&whole[5..]);
                let mut judge = judge.lock().unwrap_or_else(PoisonError::into_inner);
                judge(text.trim_end_matches('\0'))
            }
            _ => Fate::Pass,
        };
        match fate {
            Fate::Fail(code) => {
                let _ = ask.send(Due::Ours(error(code)));
            }
            Fate::Pass | Fate::Instead(_) => {
                let whole = if let Fate::Instead(text) = fate { query(text) } else { whole };
                // Each of these is answered with one `ReadyForQuery`.
                if matches!(kind, b'Q' | b'S') {
                    let _ = ask.send(Due::Servers);
                }
                server.write_all(&whole).await?;
            }
        }
    }
}

/// From the server to the client, with our own answers where they are due.
async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut asked: mpsc::UnboundedReceiver<Due>,
) -> std::io::Result<()> {
    while let Some(due) = asked.recv().await {
        match due {
            Due::Ours(answer) => client.write_all(&answer).await?,
            Due::Servers => loop {
                let (kind, whole) = message(&mut server, true).await?;
                client.write_all(&whole).await?;
                if kind == b'Z' {
                    break;
                }
            },
        }
    }
    Ok(())
}

/// The next message, whole, with its type where it has one.
async fn message(from: &mut OwnedReadHalf, typed: bool) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = if typed { from.read_u8().await? } else { 0 };
    let length = from.read_u32().await?;
    let mut whole = if typed { vec![kind] } else { Vec::new() };
    whole.extend(length.to_be_bytes());
    let start = whole.len();
    whole.resize(start + (length as usize).saturating_sub(4), 0);
    from.read_exact(&mut whole[start..]).await?;
    Ok((kind, whole))
}

/// A simple query.
fn query(text: &str) -> Vec<u8> {
    let mut query = vec![b'Q'];
    query.extend(u32::try_from(text.len() + 5).unwrap_or(u32::MAX).to_be_bytes());
    query.extend(text.as_bytes());
    query.push(0);
    query
}

/// `ErrorResponse`, then `ReadyForQuery` outside a transaction.
fn error(code: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (field, value) in [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', code), (b'M', "made to fail by a test")] {
        fields.push(field);
        fields.extend(value.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let mut answer = vec![b'E'];
    answer.extend(u32::try_from(fields.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    answer.extend(fields);
    answer.extend([b'Z', 0, 0, 0, 5, b'I']);
    answer
}
