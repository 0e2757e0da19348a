//! PostgreSQL's URLs: what tokio-postgres takes, `sslmode`, `sslrootcert` and `pool_size`.

use std::{fmt, path::PathBuf};

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::error::UrlError;

/// How to reach a server, and how many connections to open.
#[derive(Clone)]
pub(crate) struct PostgresUrl {
    pub(crate) config: Config,
    pub(crate) verify: Verify,
    pub(crate) root_cert: Option<PathBuf>,
    pub(crate) pool_size: usize,
    /// The file that holds the URL: a new password is read from there.
    pub(crate) file: Option<PathBuf>,
}

/// What is verified of the server's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verify {
    Nothing,
    Authority,
    AuthorityAndName,
}

const POSTGRES: UrlError = UrlError(
    "it cannot be read as postgres://user:password@host:port/database?option=value; \
     special characters in a password are percent-encoded",
);
const UNENCODED: UrlError = UrlError(
    "special characters in a user name, a password, a database's name or an option are percent-encoded: @ is %40, / is \
     %2F, : is %3A, ? is %3F, # is %23",
);

impl PostgresUrl {
    /// Reads a URL of one of PostgreSQL's schemes; none when it has another scheme.
    pub(crate) fn parse(url: &str) -> Option<Result<Self, UrlError>> {
        let (scheme, rest) = url.split_once(':')?;
        (matches!(scheme, "postgres" | "postgresql") && rest.starts_with("//")).then(|| parse(rest))
    }

    /// The URL that its file holds now, if there is a file and it holds one.
    pub(crate) fn read_again(&self) -> Option<Self> {
        let text = std::fs::read_to_string(self.file.as_ref()?).ok()?;
        Self::parse(text.trim_end_matches(['\n', '\r']))?.ok()
    }

    /// Hosts with their ports, separated by commas.
    pub(crate) fn addresses(&self) -> String {
        let ports = self.config.get_ports();
        let address = |(i, host): (usize, &Host)| {
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            }
        };
        self.config.get_hosts().iter().enumerate().map(address).collect::<Vec<_>>().join(",")
    }
}

/// Shows the URL without its password.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.config.get_user().unwrap_or_default();
        write!(f, "postgres://{user}@{}/{}", self.addresses(), self.config.get_dbname().unwrap_or(user))
    }
}

/// Whether no part of a password can be taken for a host, a database or an option, which are all shown: a parser that
/// finds an unencoded `@`, `/` or `?` in a password reads the rest as the next part.
fn is_encoded(rest: &str) -> bool {
    let text = rest.trim_start_matches('/');
    let (authority, tail) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    let path = tail.split('?').next().unwrap_or_default();
    let database = path.strip_prefix('/').unwrap_or(path);
    authority.matches('@').count() <= 1 && !tail.contains('@') && !database.contains(['/', ':', '#'])
}

/// Whether the host is a name or an address, and can be shown.
fn is_host(host: &Host) -> bool {
    match host {
        Host::Tcp(host) => host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%')),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Takes our own options out and leaves the rest to tokio-postgres.
fn parse(rest: &str) -> Result<PostgresUrl, UrlError> {
    if !is_encoded(rest) {
        return Err(UNENCODED);
    }
    let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut ssl_mode, mut verify, mut root_cert, mut pool_size) = (SslMode::Prefer, Verify::Nothing, None, 8);
    let mut others = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').ok_or(POSTGRES)?;
        let decoded = || percent_decode_str(value).decode_utf8().map_err(|_| POSTGRES);
        match name {
            "sslmode" => {
                (ssl_mode, verify) = match &*decoded()? {
                    "disable" => (SslMode::Disable, Verify::Nothing),
                    "prefer" => (SslMode::Prefer, Verify::Nothing),
                    "require" => (SslMode::Require, Verify::Nothing),
                    "verify-ca" => (SslMode::Require, Verify::Authority),
                    "verify-full" => (SslMode::Require, Verify::AuthorityAndName),
                    _ => return Err(UrlError("sslmode is not disable, prefer, require, verify-ca or verify-full")),
                };
            }
            "sslrootcert" => root_cert = Some(PathBuf::from(&*decoded()?)),
            "pool_size" => {
                pool_size = decoded()?
                    .parse()
                    .ok()
                    .filter(|n| (1..=1000).contains(n))
                    .ok_or(UrlError("pool_size is not a number from 1 to 1000"))?;
            }
            _ => others.push(option),
        }
    }
    let url = format!("postgres:{address}?{}", others.join("&"));
    let mut config: Config = url.trim_end_matches('?').parse().map_err(|_: tokio_postgres::Error| POSTGRES)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UrlError("it names no host"));
    }
    if !config.get_hosts().iter().all(is_host) || config.get_user().is_some_and(|user| user.contains(':')) {
        return Err(POSTGRES);
    }
    config.ssl_mode(ssl_mode);
    Ok(PostgresUrl { config, verify, root_cert, pool_size, file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_says_what_is_verified() {
        let parsed = |mode: &str| {
            let url = parse(&format!("//u@h/d?sslmode={mode}&connect_timeout=3")).unwrap();
            (url.config.get_ssl_mode(), url.verify)
        };
        assert_eq!(parsed("disable"), (SslMode::Disable, Verify::Nothing));
        assert_eq!(parsed("prefer"), (SslMode::Prefer, Verify::Nothing));
        assert_eq!(parsed("require"), (SslMode::Require, Verify::Nothing));
        assert_eq!(parsed("verify-ca"), (SslMode::Require, Verify::Authority));
        assert_eq!(parsed("verify-full"), (SslMode::Require, Verify::AuthorityAndName));
    }
}
