//! Clients that do their part late, or not at all, on real sockets.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;

/// More than the operating system takes for a client that does not read.
const LARGE: usize = 32 << 20;
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);
const LONG_ONLY: Limits = Limits { idle: LONG, head: LONG, answer: LONG, age: LONG };

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<usize>,
}

async fn serving(slots: usize, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/", get(async || "here"))
        .route("/large", get(async || Bytes::from(vec![b'x'; LARGE])))
        .route("/slow", get(async || tokio::time::sleep(SHORT * 3).await))
        .route("/length", post(async |body: Bytes| body.len().to_string()));
    let (stop, told) = oneshot::channel();
    let server = Server { listener, slots: ConnectionSlots::new(slots), limits };
    let stopped = async move { drop(told.await) };
    let ended = tokio::spawn(async move { server.serve(app, stopped, SHORT).await });
    Running { addr, stop, ended }
}

impl Running {
    async fn client(&self, sends: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(sends.as_bytes()).await.unwrap();
        stream
    }

    /// A request on a connection of its own, answered within a second.
    async fn is_answered(&self) -> bool {
        let mut stream = self.client("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read_to_string(&mut answer));
        matches!(read.await, Ok(Ok(_))) && answer.ends_with("here")
    }

    async fn stop(self) -> usize {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap()
    }
}

/// What comes until the other side closes, and when it does.
async fn rest(mut stream: TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // A connection that is cut may end with an error.
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "it is open still");
    (String::from_utf8_lossy(&bytes).into_owned(), began.elapsed())
}

const HERE: &str = "GET / HTTP/1.1\r\nhost: t\r\n\r\n";

#[tokio::test]
async fn an_idle_connection_is_kept_for_the_idle_time_and_no_longer() {
    let server = serving(8, Limits { idle: SHORT, ..LONG_ONLY }).await;
    for sends in ["", HERE] {
        let (answer, took) = rest(server.client(sends).await).await;
        assert_eq!(answer.ends_with("here"), !sends.is_empty(), "{answer}");
        assert!(took >= SHORT - Duration::from_millis(20) && took < SHORT * 5, "{took:?}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_has_a_limit_of_its_own() {
    let server = serving(8, Limits { head: SHORT, ..LONG_ONLY }).await;
    let mut stream = server.client("GET / HTTP/1.1\r\nx: ").await;
    // Also when it goes on and on.
    let (began, mut sent) = (Instant::now(), 0);
    while stream.write_all(b"x").await.is_ok() {
        sent += 1;
        tokio::time::sleep(SHORT / 10).await;
        assert!(began.elapsed() < SHORT * 10, "still open after {sent} bytes");
    }
    let idle = server.client(HERE).await;
    tokio::time::sleep(SHORT * 2).await;
    // Nothing is asked there, so nothing is late.
    let mut idle = idle;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(rest(idle).await.0.matches("here").count(), 2);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_evicted() {
    let server = serving(8, Limits { answer: SHORT, ..LONG_ONLY }).await;
    let stream = server.client("GET /large HTTP/1.1\r\nhost: t\r\n\r\n").await;
    tokio::time::sleep(SHORT * 3).await;
    let (answer, _) = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.len() < LARGE, "{}", answer.len());
}

#[tokio::test]
async fn our_own_slowness_is_nobodys_limit() {
    let limits = Limits { idle: SHORT, head: SHORT, answer: SHORT, age: LONG };
    let server = serving(8, limits).await;
    let (answer, _) = rest(server.client("GET /slow HTTP/1.1\r\nhost: t\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn an_old_connection_ends_with_its_next_answer() {
    let server = serving(8, Limits { age: SHORT, ..LONG_ONLY }).await;
    let mut stream = server.client(HERE).await;
    tokio::time::sleep(SHORT * 2).await;
    stream.write_all(HERE.as_bytes()).await.unwrap();
    let (answers, _) = rest(stream).await;
    assert_eq!((answers.matches("here").count(), answers.matches("connection: close").count()), (2, 1), "{answers}");
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_whoever_kept_us_waiting_longest() {
    let server = serving(4, LONG_ONLY).await;
    let silent = server.client("").await;
    let head = server.client("GET / HT").await;
    let body = server.client("POST /length HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nx").await;
    let deaf = server.client("GET /large HTTP/1.1\r\nhost: t\r\n\r\n").await;
    tokio::time::sleep(SHORT).await;
    assert!(server.is_answered().await);
    assert_eq!(rest(silent).await.0, "");
    // The newcomer has left again, and its slot is free.
    let mut newcomers = Vec::new();
    for _ in 0..4 {
        newcomers.push(server.client(HERE).await);
        assert!(server.is_answered().await);
    }
    assert_eq!(rest(head).await.0, "");
    assert_eq!(rest(body).await.0, "");
    assert!(rest(deaf).await.0.len() < LARGE);
}

#[tokio::test]
async fn who_waits_for_us_keeps_his_place() {
    let server = serving(2, LONG_ONLY).await;
    let slow = server.client("GET /slow HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    let _idle = server.client(HERE).await;
    tokio::time::sleep(SHORT).await;
    for _ in 0..5 {
        assert!(server.is_answered().await);
    }
    assert!(rest(slow).await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_hold_the_end_up() {
    let server = serving(8, LONG_ONLY).await;
    let mut deaf = Vec::new();
    for _ in 0..3 {
        deaf.push(server.client("GET /large HTTP/1.1\r\nhost: t\r\n\r\n").await);
    }
    let _idle = server.client(HERE).await;
    tokio::time::sleep(SHORT).await;
    let began = Instant::now();
    assert_eq!(server.stop().await, 3);
    assert!(began.elapsed() < SHORT * 4, "{:?}", began.elapsed());
    for stream in deaf {
        assert!(rest(stream).await.0.len() < LARGE);
    }
}
