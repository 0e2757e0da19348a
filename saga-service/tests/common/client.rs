//! One HTTP request over one connection, byte for byte as the test wants it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn is_problem(&self) -> bool {
        self.head.to_ascii_lowercase().contains("content-type: application/problem+json")
            && self.json()["status"] == self.status
    }
}

/// None when nobody listens, or the connection ends without an answer.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Option<Answer> {
    send(addr, &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"), b"")
}

pub(crate) fn post(addr: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> Option<Answer> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         content-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    send(addr, &head, body)
}

/// Writes everything before it reads anything, as simple clients do.
pub(crate) fn send(addr: SocketAddr, head: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = open(addr, head)?;
    stream.write_all(body).ok()?;
    read(&mut stream)
}

/// A request of which only this much is sent.
pub(crate) fn open(addr: SocketAddr, head: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    Some(stream)
}

pub(crate) fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    ended.ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
