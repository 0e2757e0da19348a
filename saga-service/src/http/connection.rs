//! One HTTP/1.1 connection with the time limits of its client.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, Request, header},
    response::Response,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, server::graceful::Watcher, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::connection_state::{ConnectionState, TimedOut};

/// Size limit of a request's head; browsers and proxies send less.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("{0}")]
    Failed(#[from] hyper::Error),
    #[error("the client was too slow: {0:?}")]
    TimedOut(TimedOut),
    #[error("its place was needed")]
    Evicted,
}

/// Serves until the client leaves or is too slow, or the service stops.
pub(super) async fn serve(
    stream: TcpStream,
    app: Router,
    state: Arc<ConnectionState>,
    watcher: Watcher,
) -> Result<(), ConnectionError> {
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let app = TowerToHyperService::new(app);
    let of_service = state.clone();
    let service = service_fn(move |request: Request<Incoming>| answer(&app, request, of_service.clone()));
    let io = TokioIo::new(Observed { stream, state: state.clone() });
    let connection =
        http1::Builder::new().max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD).serve_connection(io, service);
    within(watcher.watch(connection), &state).await
}

fn answer(
    app: &TowerToHyperService<Router>,
    request: Request<Incoming>,
    state: Arc<ConnectionState>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    state.begun();
    let answer = app.call(request.map(|body| Body::new(Awaited { body, state: state.clone() })));
    async move {
        let mut response = answer.await?;
        // An old connection ends with an answer: cutting it while idle could hit the next request.
        if state.is_old() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        state.answered();
        Ok(response)
    }
}

/// Runs a connection until it ends, its client times out, or its slot is needed.
async fn within(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    state: &ConnectionState,
) -> Result<(), ConnectionError> {
    let mut connection = pin!(connection);
    let mut evicted = pin!(state.evicted());
    let mut alarm = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended.map_err(ConnectionError::from));
        }
        if evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ConnectionError::Evicted));
        }
        // The deadline has mostly moved on when the alarm goes off, which costs less than setting it each time.
        while let Some((deadline, late)) = state.deadline() {
            if deadline <= Instant::now() {
                return Poll::Ready(Err(ConnectionError::TimedOut(late)));
            }
            if alarm.is_elapsed() || deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(cx));
        }
        Poll::Pending
    })
    .await
}

/// A request's body that reports whether its reader waits for the client.
struct Awaited {
    body: Incoming,
    state: Arc<ConnectionState>,
}

impl HttpBody for Awaited {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.state.body(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that reports its reads and writes.
struct Observed {
    stream: TcpStream,
    state: Arc<ConnectionState>,
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.state.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.state.writing();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.state.writing();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when there is nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.state.written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
