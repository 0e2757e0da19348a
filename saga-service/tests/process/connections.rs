//! Clients that hold connections: what probes, other clients and the end of the process feel of them.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    child::{END, MEMORY, NO_BROKER, NO_DATABASE, Probe, probe},
    common::{client, wait_for},
};

/// As many places as [`narrow`] leaves.
const PLACES: usize = 64;

/// A probe that has as few places for connections as there can be.
fn narrow(variables: &[(&str, &str)]) -> Command {
    let probe = probe(variables);
    let mut command = Command::new("sh");
    // Set before, since what is left to other things is more than this.
    command.args(["-c", "ulimit -n 300; exec \"$0\""]).arg(probe.get_program());
    command.env_clear().envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Asks for the metrics again and again, and never reads them.
fn deaf(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n".repeat(100);
    // The other side may have had enough before the end.
    let _ = stream.write_all(requests.as_bytes());
    stream
}

/// How often metrics were asked for before, however that was answered.
fn scrapes(metrics: &str) -> u64 {
    let counts = metrics.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count"));
    let scrapes = counts.filter(|line| line.contains("http_route=\"/metrics\""));
    scrapes.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn a_request_that_does_not_end_cannot_hold_the_process() {
    let probe = Probe::start(&[MEMORY, NO_BROKER]);
    wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let slow = client::open(probe.addr, "GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client::get(probe.addr, "/livez").unwrap().status, 200);
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
    assert!(log.contains("requests did not end in time"), "{log}");
    drop(slow);
}

#[test]
fn with_every_place_held_by_clients_that_do_not_read_probes_and_requests_are_answered_and_sigterm_ends_the_process() {
    let probe = Probe::spawn(narrow(&[MEMORY, NO_BROKER]));
    wait_for(|| client::get(probe.addr, "/readyz").unwrap().body, |body| !body.contains("database"));
    let addr = probe.addr;
    let deaf: Vec<_> = (0..PLACES + 10).map(|_| std::thread::spawn(move || deaf(addr))).collect();
    let deaf: Vec<_> = deaf.into_iter().map(|thread| thread.join().unwrap()).collect();
    let quickly = |answer: &dyn Fn() -> Option<client::Answer>| {
        let asked = Instant::now();
        let answer = answer().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        answer.status
    };
    // Until the service has written all that fits into the buffers of those who do not read it, and only we are answered.
    let scraped = || client::get(addr, "/metrics").map_or(0, |metrics| scrapes(&metrics.body));
    wait_for(|| (scraped(), scraped()), |(before, after)| *before > 0 && *after == before + 1);
    for _ in 0..10 {
        assert_eq!(quickly(&|| client::get(addr, "/livez")), 200);
        assert_eq!(quickly(&|| client::get(addr, "/readyz/http")), 200);
        assert_eq!(quickly(&|| client::post(addr, "/ask", "application/json", b"")), 202);
    }
    probe.signal("-TERM");
    let (status, log, took) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took < END, "{took:?}: {log}");
    drop(deaf);
}

#[test]
fn with_every_place_held_by_clients_that_say_nothing_a_probe_is_answered() {
    let probe = Probe::spawn(narrow(&[NO_DATABASE, NO_BROKER]));
    let silent: Vec<_> = (0..PLACES * 3).map(|_| client::open(probe.addr, "GET /livez HT")).collect();
    let asked = Instant::now();
    assert_eq!(client::get(probe.addr, "/livez").unwrap().status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    drop(silent);
}

#[test]
fn after_sigterm_a_service_is_not_ready_and_answers_until_its_grace_is_over() {
    let grace = Duration::from_secs(2);
    let probe = Probe::start(&[MEMORY, NO_BROKER, ("SHUTDOWN_GRACE", "2s")]);
    wait_for(|| client::get(probe.addr, "/readyz/http").unwrap().status, |status| *status == 200);
    let began = Instant::now();
    probe.signal("-TERM");
    let stopping = |path| client::get(probe.addr, path).unwrap();
    wait_for(|| stopping("/readyz/http").body, |body| body.contains("shutdown"));
    let readyz = stopping("/readyz");
    assert!(readyz.status == 503 && readyz.body.contains("shutdown: stopping"), "{readyz:?}");
    assert_eq!(stopping("/livez").status, 200);
    let asked = client::post(probe.addr, "/ask", "application/json", b"").unwrap();
    assert_eq!(asked.status, 202);
    assert!(asked.head.to_ascii_lowercase().contains("connection: close"), "{asked:?}");
    let (status, log, _) = probe.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let took = began.elapsed();
    assert!(took >= grace && took < grace + END, "{took:?}: {log}");
}
