//! Database URLs: where a participant's database is, without ever showing its password.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};

/// `sqlite://path`, `sqlite::memory:` or `postgres://user:password@host:port/database?sslmode=..`.
///
/// SQLite: a relative path (`sqlite://data/orders.db`) or an absolute one (`sqlite:///var/lib/orders.db`); the file and
/// its folder are created. `sqlite::memory:` is a database of its own for each [`Db`](crate::Db) that is opened, gone with
/// its last clone, and never forced to the disk: for tests and demonstrations.
///
/// PostgreSQL: what tokio-postgres understands, and besides
/// - `sslmode`: `disable`, `prefer` (the default), `require` (encrypted, the server not verified), `verify-ca`, `verify-full`;
/// - `sslrootcert`: a PEM file of the authorities to trust, the operating system's by default;
/// - `pool_size`: the most connections that are open at a time, 8 by default and 2 at least. Two of them are the worker's own,
///   or one where there are only two; the rest serves requests, and is given back when idle for 5 s.
///
/// `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct DatabaseUrl(pub(crate) Place);

#[derive(Clone)]
pub(crate) enum Place {
    SqliteFile(PathBuf),
    SqliteMemory,
    Postgres(Box<PostgresUrl>),
}

#[derive(Clone)]
pub(crate) struct PostgresUrl {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) verify: Verify,
    pub(crate) root_cert: Option<PathBuf>,
    pub(crate) pool_size: usize,
    /// Where it stands, if a new password is to be looked for there.
    pub(crate) file: Option<PathBuf>,
}

/// What is verified of a server that speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verify {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// Why a text is not a database URL. Does not quote the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a database URL: {0}")]
pub struct UrlError(&'static str);

const SCHEMES: UrlError = UrlError("it must start with sqlite:// or postgres://");
const POSTGRES: UrlError = UrlError(
    "it cannot be read as postgres://user:password@host:port/database?option=value; \
     special characters in a password are percent-encoded",
);
const UNENCODED: UrlError = UrlError(
    "special characters in a user name, a password, a database's name or an option are percent-encoded: @ is %40, / is \
     %2F, : is %3A, ? is %3F, # is %23",
);

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        match url.split_once(':') {
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                postgres(rest).map(|url| Self(Place::Postgres(Box::new(url))))
            }
            _ => Err(SCHEMES),
        }
    }
}

fn sqlite(rest: &str) -> Result<DatabaseUrl, UrlError> {
    if rest == ":memory:" {
        return Ok(DatabaseUrl(Place::SqliteMemory));
    }
    let path = rest.strip_prefix("//").ok_or(SCHEMES)?;
    if path == ":memory:" {
        return Ok(DatabaseUrl(Place::SqliteMemory));
    }
    if path.contains('?') {
        return Err(UrlError("sqlite:// takes no options"));
    }
    if path.split('/').next().is_some_and(|first| first.contains('@')) {
        return Err(UrlError("sqlite:// takes no user and no host; a file with an @ in its name is sqlite://./name"));
    }
    if path.contains('\0') {
        return Err(UrlError("the path of sqlite:// contains NUL"));
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(UrlError("sqlite:// must be followed by the path of a file"));
    }
    Ok(DatabaseUrl(Place::SqliteFile(PathBuf::from(path))))
}

/// Whether nothing of a password can be taken for a host, a database or an option, all of which are shown: a parser that
/// meets an `@`, `/` or `?` of a password goes on behind it with what comes next.
fn is_encoded(rest: &str) -> bool {
    let text = rest.trim_start_matches('/');
    let (authority, tail) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    let path = tail.split('?').next().unwrap_or_default();
    let database = path.strip_prefix('/').unwrap_or(path);
    authority.matches('@').count() <= 1 && !tail.contains('@') && !database.contains(['/', ':', '#'])
}

/// What a name or an address can be, so that it can be shown.
fn is_host(host: &Host) -> bool {
    match host {
        Host::Tcp(host) => host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%')),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// The options that tokio-postgres does not know are taken out, the rest is left to it.
fn postgres(rest: &str) -> Result<PostgresUrl, UrlError> {
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
    let mut config: tokio_postgres::Config =
        url.trim_end_matches('?').parse().map_err(|_: tokio_postgres::Error| POSTGRES)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UrlError("it names no host"));
    }
    if !config.get_hosts().iter().all(is_host) || config.get_user().is_some_and(|user| user.contains(':')) {
        return Err(POSTGRES);
    }
    config.ssl_mode(ssl_mode);
    Ok(PostgresUrl { config, verify, root_cert, pool_size, file: None })
}

impl DatabaseUrl {
    /// The file that holds this URL. When the server refuses the password, it is looked for there again: passwords change
    /// while processes run.
    #[must_use]
    pub fn kept_in(mut self, file: impl Into<PathBuf>) -> Self {
        if let Place::Postgres(url) = &mut self.0 {
            url.file = Some(file.into());
        }
        self
    }
}

impl PostgresUrl {
    /// What its file holds by now; nothing when there is none, or when it holds no such URL.
    pub(crate) fn read_again(&self) -> Option<Self> {
        let text = std::fs::read_to_string(self.file.as_ref()?).ok()?;
        match text.trim_end_matches(['\n', '\r']).parse::<DatabaseUrl>().ok()?.0 {
            Place::Postgres(url) => Some(*url),
            _ => None,
        }
    }

    /// Its hosts with their ports, separated by commas.
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

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match &self.0 {
            Place::SqliteFile(path) => return write!(f, "sqlite://{}", path.display()),
            Place::SqliteMemory => return f.write_str("sqlite::memory:"),
            Place::Postgres(url) => url,
        };
        let user = url.config.get_user().unwrap_or_default();
        write!(f, "postgres://{user}@{}", url.addresses())?;
        write!(f, "/{}", url.config.get_dbname().unwrap_or(user))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DatabaseUrl, UrlError> {
        url.parse()
    }

    #[test]
    fn sqlite_paths_are_relative_or_absolute() {
        let path = |url: &str| match parse(url).unwrap().0 {
            Place::SqliteFile(path) => path,
            _ => panic!("{url} is a file"),
        };
        assert_eq!(path("sqlite://orders.db"), PathBuf::from("orders.db"));
        assert_eq!(path("sqlite://./data/orders.db"), PathBuf::from("./data/orders.db"));
        assert_eq!(path("sqlite:///var/lib/orders.db"), PathBuf::from("/var/lib/orders.db"));
        assert!(matches!(parse("sqlite::memory:").unwrap().0, Place::SqliteMemory));
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for (url, reason) in [
            ("mysql://root@localhost/db", "must start with"),
            ("", "must start with"),
            ("sqlite://", "path of a file"),
            ("sqlite://a/", "path of a file"),
            ("sqlite://a.db?mode=ro", "no options"),
            ("postgres://u@h/db?sslmode=maybe", "sslmode is not"),
            ("postgres://u@h/db?pool_size=0", "pool_size"),
            ("postgres://u@h/db?nonsense=1", "cannot be read"),
            ("postgres://u@h:port/db", "cannot be read"),
            ("postgres:///db", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://saga:hunter2@db.example:6432/orders",
            "postgres://saga@db.example:6432/orders?password=hunter2&sslmode=verify-full",
            "postgres://saga:hunter2@db.example:6432/orders?sslmode=hunter2",
            "postgres://saga:hun?ter2@db.example/orders?x=hunter2",
            "postgres://saga:hunter2@db.example:hunter2/orders",
            "hunter2://x",
            "postgres://saga:p@hunter2@db.example/orders",
            "postgres://saga:p@hunter2@ter2@db.example/orders",
            "postgres://saga:p@/hunter2@db.example/orders",
            "postgres://saga:p@5432/hunter2@db.example/orders",
            "postgres://saga:p@x?user=hunter2@db.example/orders",
            "postgres://saga:5432/hunter2@db.example/orders",
            "postgres://saga:5432/hunter2:@db.example/orders",
            "postgres://saga:5432?user=hunter2@db.example/orders",
            "postgres://saga:5432?dbname=hunter2@db.example/orders",
            "postgres://saga:5432#hunter2@db.example/orders",
            "postgres://saga:p@db/hunter2@db.example/orders",
            "postgres://saga:p@db,hunter2@db.example/orders",
            "postgres://saga:p@[::1]:5432,hunter2@db.example/orders",
            "postgres://saga:p@db%40hunter2/orders",
            "postgres://saga:p@db hunter2/orders",
            "postgres://saga%3Ahunter2@db.example/orders",
            "postgres://saga:p%40hunter2@db.example/orders",
            "postgres://saga:hunter2@db.example?application_name=a@hunter2",
            "sqlite://saga:p@hunter2@db.example/orders",
            "sqlite://saga:hunter2@db.example/orders",
        ] {
            let shown = match parse(url) {
                Ok(parsed) => format!("{parsed} {parsed:?} {parsed:#?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{url}: {shown}");
        }
        assert_eq!(
            parse("postgresql://saga:hunter2@db.example:6432/orders").unwrap().to_string(),
            "postgres://saga@db.example:6432/orders"
        );
    }

    #[test]
    fn what_is_not_encoded_is_refused_with_a_hint() {
        for url in [
            "postgres://saga:p@SECRET@host/db",
            "postgres://saga:p/SECRET@host/db",
            "postgres://saga:p@host/db@SECRET",
            "postgres://saga:p@host/db/SECRET",
            "postgres://saga@host/db?password=p@SECRET",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("percent-encoded") && error.contains("%40"), "{url}: {error}");
        }
        let Place::Postgres(url) = parse("postgres://saga:p%40%2FS%3F%23%3A:@[::1]:6432,b.example/d%2Fb").unwrap().0
        else {
            panic!("it is on PostgreSQL")
        };
        assert_eq!(url.config.get_password(), Some(&b"p@/S?#::"[..]));
        assert_eq!(url.config.get_dbname(), Some("d/b"));
        assert_eq!(url.addresses(), "::1:6432,b.example:5432");
        assert!(parse("sqlite://./a@b.db").is_ok() && parse("postgres://%2Fvar%2Frun@x:1/d").is_ok());
    }

    #[test]
    fn sslmode_says_what_is_verified() {
        let parsed = |mode: &str| match parse(&format!("postgres://u@h/d?sslmode={mode}&connect_timeout=3")).unwrap().0
        {
            Place::Postgres(url) => (url.config.get_ssl_mode(), url.verify),
            _ => panic!("{mode} is on PostgreSQL"),
        };
        assert_eq!(parsed("disable"), (SslMode::Disable, Verify::Nothing));
        assert_eq!(parsed("prefer"), (SslMode::Prefer, Verify::Nothing));
        assert_eq!(parsed("require"), (SslMode::Require, Verify::Nothing));
        assert_eq!(parsed("verify-ca"), (SslMode::Require, Verify::Authority));
        assert_eq!(parsed("verify-full"), (SslMode::Require, Verify::AuthorityAndName));
    }
}
