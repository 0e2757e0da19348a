//! `--healthcheck`: asks the process that runs with the same settings whether it is ready, for containers without curl.

// By hand: one request over loopback needs no client with pools, redirects and TLS.
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use crate::config::HttpAddr;

/// Time limit for each of connecting, sending and receiving.
const PATIENCE: Duration = Duration::from_secs(2);
/// Larger than any answer of `/readyz`.
const MAX_ANSWER: u64 = 64 * 1024;

/// Why a service is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("HTTP_ADDR: the port that the other process took is unknown; name one")]
    AnyPort,
    #[error("no answer from {0}: {1}")]
    NoAnswer(HttpAddr, #[source] io::Error),
    #[error("not ready: {0}")]
    Said(String),
}

/// Asks `/readyz` of the service that listens there.
pub(crate) fn ask(addr: &HttpAddr) -> Result<(), NotReady> {
    let unanswered = |error| NotReady::NoAnswer(addr.clone(), error);
    let resolved = addr.to_string().to_socket_addrs().map_err(unanswered)?;
    let mut result = Err(unanswered(io::ErrorKind::AddrNotAvailable.into()));
    for socket in resolved {
        if socket.port() == 0 {
            return Err(NotReady::AnyPort);
        }
        match get(reachable(socket)) {
            Ok(answer) => return judge(&answer),
            Err(error) => result = Err(unanswered(error)),
        }
    }
    result
}

/// A service that listens on all addresses is asked on loopback.
fn reachable(mut socket: SocketAddr) -> SocketAddr {
    if socket.ip().is_unspecified() {
        let own = if socket.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        socket.set_ip(own);
    }
    socket
}

fn get(socket: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {socket}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge(answer: &str) -> Result<(), NotReady> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ if body.is_empty() => Err(NotReady::Said(line.to_owned())),
        _ => Err(NotReady::Said(body.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Answers one request, and tells what it was asked.
    fn answering(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (port, asked)
    }

    fn ask_port(port: u16) -> Result<(), String> {
        ask(&format!("0.0.0.0:{port}").parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_loopback_whether_it_is_ready() {
        let (port, asked) = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(ask_port(port), Ok(()));
        assert!(asked.join().unwrap().starts_with(&format!("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n")));
    }

    #[test]
    fn what_a_service_waits_for_is_told() {
        let (port, asked) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"ready\":false}\n");
        assert_eq!(ask_port(port), Err("not ready: {\"ready\":false}".to_owned()));
        asked.join().unwrap();
    }

    #[test]
    fn who_does_not_speak_http_is_not_ready() {
        let (port, asked) = answering("200\r\n");
        assert_eq!(ask_port(port), Err("not ready: 200".to_owned()));
        asked.join().unwrap();
    }

    #[test]
    fn where_nobody_listens_nobody_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(ask_port(port).unwrap_err().starts_with(&format!("no answer from 0.0.0.0:{port}: ")));
        assert!(ask_port(0).unwrap_err().starts_with("HTTP_ADDR: "));
    }
}
