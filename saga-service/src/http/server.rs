//! The accept loop: HTTP/1.1 connections with limits on what a slow or greedy caller can hold.

use std::{future::Future, io, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// For a request's head to arrive, and for the next request on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head; more than browsers and proxies send.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// After an accept that failed for want of something, file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets the requests in flight finish, for at most `grace`. Tells how many did not.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> usize {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
            // Reaps what has ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        let connection = connection(&http, stream, app.clone());
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
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

/// An accept may fail because of one caller, or because the process is out of something.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "connections cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
