//! The accept loop: HTTP/1.1 connections with limits on what a slow or greedy caller can hold.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tracing::Instrument;

/// For a request's head to arrive, and for the next request on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head; more than browsers and proxies send.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_CONNECTIONS: usize = 16 * 1024;
/// File descriptors left to everything but HTTP connections.
const RESERVED: usize = 256;
/// After an accept that failed for want of something, file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets the requests in flight finish, for at most `grace`. Tells how many did not.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> usize {
    let seats = Arc::new(Semaphore::new(seats()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, seat) = tokio::select! {
            accepted = accept(&listener, &seats) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
            // Reaps what has ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        let connection = connection(&http, stream, app.clone());
        let connection = graceful.watch(connection);
        let connection = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(seat);
        };
        connections.spawn(connection.in_current_span());
    }
    drop(listener);
    // What outlives the grace ends with the set.
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
    while connections.try_join_next().is_some() {}
    connections.len()
}

fn connection(
    http: &http1::Builder,
    stream: TcpStream,
    app: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    // Answers are small, and written whole.
    let _ = stream.set_nodelay(true);
    http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
}

/// The next connection, when there is room for one. A failure to accept it leaves room for the next.
async fn accept(listener: &TcpListener, seats: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // Never closed.
    let seat = seats.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, seat)),
        Err(error) => {
            refused(&error).await;
            None
        }
    }
}

/// Callers must not use up the file descriptors that the database and the broker need.
fn seats() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = open_files.and_then(|line| line.split_ascii_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(MAX_CONNECTIONS, |soft| soft.saturating_sub(RESERVED).clamp(64, MAX_CONNECTIONS))
}

/// An accept may fail because of one caller, or because the process is out of something.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "connections cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
