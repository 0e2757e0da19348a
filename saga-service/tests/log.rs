//! A service whose log nobody reads: standard error is a full pipe.
#![allow(clippy::unwrap_used, reason = "a test that fails")]
#![cfg(unix)]

mod common;

use std::{
    io::{PipeReader, Read, Write, pipe},
    net::{SocketAddr, TcpListener},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    client::{self, Answer},
    wait_for,
};

/// Within this time a process that was told to stop has ended.
const END: Duration = Duration::from_secs(10);
const DROPPED: &str = "saga_log_lines_dropped_total ";

/// A service and the unread end of its standard error.
struct Unread {
    child: Child,
    addr: SocketAddr,
    log: PipeReader,
    is_read: Arc<AtomicBool>,
}

impl Unread {
    fn start() -> Self {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let deps = std::env::current_exe().unwrap();
        let mut command = Command::new(deps.ancestors().nth(2).unwrap().join("examples/probe"));
        let (log, stderr) = pipe().unwrap();
        let mut filler = stderr.try_clone().unwrap();
        let is_read = Arc::new(AtomicBool::new(false));
        let ended = is_read.clone();
        // The pipe is full when it no longer gets on.
        thread::spawn(move || while !ended.load(Relaxed) && filler.write_all(&[b'\n'; 1024]).is_ok() {});
        command.env_clear().env("HTTP_ADDR", addr.to_string()).env("LOG_FORMAT", "json");
        command.env("DATABASE_URL", "sqlite::memory:").env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
        let child = command.stderr(stderr).spawn().unwrap();
        let service = Self { child, addr, log, is_read };
        wait_for(|| client::get(addr, "/livez").map(|a| a.status), |status| *status == Some(200));
        wait_for(|| service.get("/readyz").body, |body| !body.contains("database"));
        service
    }

    fn get(&self, path: &str) -> Answer {
        client::get(self.addr, path).unwrap()
    }

    fn dropped(&self) -> u64 {
        let metrics = self.get("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(DROPPED));
        line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_service_whose_log_nobody_reads_answers_and_ends_when_it_is_told() {
    let mut service = Unread::start();
    for _ in 0..50 {
        assert_eq!(service.get("/log").status, 200);
        assert_eq!(service.get("/panic").status, 500);
        let asked = Instant::now();
        assert_eq!(service.get("/livez").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        let answer = client::post(service.addr, "/ask", "application/json", b"").unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let told = Instant::now();
    service.terminate();
    let status = service.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(told.elapsed() < END, "{:?}", told.elapsed());
}

#[test]
fn lines_that_nobody_reads_are_counted_and_told_of_when_somebody_reads_again() {
    let mut service = Unread::start();
    assert_eq!(service.dropped(), 0);
    wait_for(
        || {
            assert_eq!(service.get("/log").status, 200);
            service.dropped()
        },
        |dropped| *dropped > 0,
    );
    // What is logged before the end comes out, when somebody reads it.
    service.is_read.store(true, Relaxed);
    service.terminate();
    let mut log = String::new();
    service.log.read_to_string(&mut log).unwrap();
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    assert!(log.contains("log lines were dropped"));
    assert!(log.lines().last().unwrap().contains("\"stopped\""));
}
