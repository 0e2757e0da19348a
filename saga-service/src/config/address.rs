//! The address that a service listens on.

use std::{fmt, io, net::SocketAddr, str::FromStr};

use tokio::net::TcpListener;

/// `HTTP_ADDR`: an address, or a host name, and a port. Port 0 takes any free one.
///
/// ```
/// use saga_service::config::HttpAddr;
///
/// assert!("127.0.0.1:8081".parse::<HttpAddr>().is_ok());
/// assert!("localhost:8081".parse::<HttpAddr>().is_ok());
/// assert!("8081".parse::<HttpAddr>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpAddr(String);

/// The text is not an address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address and a port, such as 127.0.0.1:8081 or 0.0.0.0:8081")]
pub struct HttpAddrError;

impl HttpAddr {
    pub(crate) async fn bind(&self) -> io::Result<TcpListener> {
        TcpListener::bind(&self.0).await
    }
}

impl From<SocketAddr> for HttpAddr {
    fn from(addr: SocketAddr) -> Self {
        Self(addr.to_string())
    }
}

impl FromStr for HttpAddr {
    type Err = HttpAddrError;

    fn from_str(text: &str) -> Result<Self, HttpAddrError> {
        if text.parse::<SocketAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(HttpAddrError)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let starts_well = host.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts_well || !host.chars().all(is_name) || port.parse::<u16>().is_err() {
            return Err(HttpAddrError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HttpAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
