//! A slow line to PostgreSQL that counts round trips.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// The time from one end to the other: long enough that what is sent together arrives together.
const ONE_WAY: Duration = Duration::from_millis(10);

/// Counts the round trips of all connections of a line.
#[derive(Clone, Default)]
pub(crate) struct RoundTrips {
    count: Arc<AtomicUsize>,
    /// The server has answered since the client sent last.
    answered: Arc<AtomicBool>,
}

impl RoundTrips {
    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// The client sends: a new round trip, if the server has answered the last one.
    fn sent(&self) {
        if self.answered.swap(false, SeqCst) {
            self.count.fetch_add(1, SeqCst);
        }
    }

    fn answered(&self) {
        self.answered.store(true, SeqCst);
    }
}

/// The server's URL by way of a slow line; none when it cannot be found in this URL.
pub(crate) async fn distant(url: &str, trips: &RoundTrips) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (user, rest) = rest.split_once('@').unwrap_or(("", rest));
    let (server, database) = rest.split_once('/')?;
    let (database, server) = (database.split('?').next()?, server.to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.ok()?;
    let addr = listener.local_addr().ok()?;
    let trips = trips.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&server).await else { return };
            // Small packets leave at once, as the driver's own do.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let (sent, answered) = (trips.clone(), trips.clone());
            carry(from_client, to_server, move || sent.sent(), || {});
            carry(from_server, to_client, || {}, move || answered.answered());
        }
    });
    Some(format!("{scheme}://{user}@{addr}/{database}?sslmode=disable"))
}

/// Delivers everything [`ONE_WAY`] later.
fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    on_sent: impl Fn() + Send + 'static,
    on_arrived: impl Fn() + Send + 'static,
) {
    let (sent, mut arriving) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            on_sent();
            let _ = sent.send((Instant::now() + ONE_WAY, bytes[..count].to_vec()));
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            on_arrived();
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}
