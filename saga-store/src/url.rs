//! Database URLs, shown without their passwords.

#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::{fmt, str::FromStr};

use crate::error::UrlError;
#[cfg(feature = "postgres")]
use crate::postgres::PostgresUrl;

/// `sqlite://path`, `sqlite::memory:` or `postgres://user:password@host:port/database?sslmode=..`.
///
/// SQLite: a relative path (`sqlite://data/orders.db`) or an absolute one (`sqlite:///var/lib/orders.db`); the file and
/// its folder are created. `sqlite::memory:` is a new database for each [`Db`](crate::Db) that is opened. It ends with
/// the last clone and is never synced to disk: for tests and demonstrations.
///
/// PostgreSQL: what tokio-postgres understands, and these options:
/// - `sslmode`: `disable`, `prefer` (the default), `require` (encrypted, the server not verified), `verify-ca`, `verify-full`;
/// - `sslrootcert`: a PEM file of the authorities to trust, the operating system's by default;
/// - `pool_size`: the most connections at a time, 8 by default and at least 2. Two of them are the worker's (one of
///   two); the rest serves requests and is closed after 5 s of idleness.
///
/// `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct DatabaseUrl(pub(crate) Location);

#[derive(Clone)]
pub(crate) enum Location {
    #[cfg(feature = "sqlite")]
    SqliteFile(PathBuf),
    #[cfg(feature = "sqlite")]
    SqliteMemory,
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresUrl>),
}

const SCHEMES: UrlError = UrlError("it must start with sqlite:// or postgres://");
impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        match url.split_once(':') {
            #[cfg(feature = "sqlite")]
            Some(("sqlite", rest)) => sqlite(rest),
            #[cfg(not(feature = "sqlite"))]
            Some(("sqlite", _)) => Err(UrlError("this program was built without SQLite (saga's feature `sqlite`)")),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => {
                PostgresUrl::parse(url).unwrap_or(Err(SCHEMES)).map(|url| Self(Location::Postgres(Box::new(url))))
            }
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                Err(UrlError("this program was built without PostgreSQL (saga's feature `postgres`)"))
            }
            _ => Err(SCHEMES),
        }
    }
}

#[cfg(feature = "sqlite")]
fn sqlite(rest: &str) -> Result<DatabaseUrl, UrlError> {
    if rest == ":memory:" {
        return Ok(DatabaseUrl(Location::SqliteMemory));
    }
    let path = rest.strip_prefix("//").ok_or(SCHEMES)?;
    if path == ":memory:" {
        return Ok(DatabaseUrl(Location::SqliteMemory));
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
    Ok(DatabaseUrl(Location::SqliteFile(PathBuf::from(path))))
}

impl DatabaseUrl {
    /// Names the file that holds this URL. When the server refuses the password, the file is read again: passwords change
    /// while processes run.
    #[must_use]
    pub fn kept_in(mut self, file: impl Into<std::path::PathBuf>) -> Self {
        match &mut self.0 {
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => url.file = Some(file.into()),
            #[cfg(feature = "sqlite")]
            _ => drop(file),
        }
        self
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            #[cfg(feature = "sqlite")]
            Location::SqliteFile(path) => write!(f, "sqlite://{}", path.display()),
            #[cfg(feature = "sqlite")]
            Location::SqliteMemory => f.write_str("sqlite::memory:"),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DatabaseUrl, UrlError> {
        url.parse()
    }

    #[test]
    fn sqlite_paths_are_relative_or_absolute() {
        let path = |url: &str| match parse(url).unwrap().0 {
            Location::SqliteFile(path) => path,
            _ => panic!("{url} is a file"),
        };
        assert_eq!(path("sqlite://orders.db"), PathBuf::from("orders.db"));
        assert_eq!(path("sqlite://./data/orders.db"), PathBuf::from("./data/orders.db"));
        assert_eq!(path("sqlite:///var/lib/orders.db"), PathBuf::from("/var/lib/orders.db"));
        assert!(matches!(parse("sqlite::memory:").unwrap().0, Location::SqliteMemory));
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
        let Location::Postgres(url) = parse("postgres://saga:p%40%2FS%3F%23%3A:@[::1]:6432,b.example/d%2Fb").unwrap().0
        else {
            panic!("it is on PostgreSQL")
        };
        assert_eq!(url.config.get_password(), Some(&b"p@/S?#::"[..]));
        assert_eq!(url.config.get_dbname(), Some("d/b"));
        assert_eq!(url.addresses(), "::1:6432,b.example:5432");
        assert!(parse("sqlite://./a@b.db").is_ok() && parse("postgres://%2Fvar%2Frun@x:1/d").is_ok());
    }
}
