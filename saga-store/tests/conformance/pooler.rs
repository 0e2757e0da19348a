//! A pooler between a service and its database: one that takes a session apart is refused. Where the program `pgbouncer`
//! is missing, there is nothing to test.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use saga_store::{ConnectError, DatabaseUrl, Db, tokio_postgres};

use crate::support::{Fixture, MIGRATIONS, postgres_url};

struct PgBouncer {
    process: Child,
    folder: PathBuf,
    url: String,
}

impl PgBouncer {
    /// None where it is not installed.
    async fn start(mode: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists())?;
        let server: tokio_postgres::Config = postgres_url()?.parse().ok()?;
        let [tokio_postgres::config::Host::Tcp(host)] = server.get_hosts() else { return None };
        let (server_port, database, user) = (server.get_ports()[0], server.get_dbname()?, server.get_user()?);
        let password =
            server.get_password().map(|password| format!("password='{}'", String::from_utf8_lossy(password)));
        let password = password.unwrap_or_default();
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let folder = std::env::temp_dir().join(format!("saga-pgbouncer-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let config = folder.join("pgbouncer.ini");
        std::fs::write(
            &config,
            format!(
                "[databases]\n{database} = host={host} port={server_port} user={user} {password}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
                 pool_mode = {mode}\ndefault_pool_size = 5\nlogfile = /dev/null\n"
            ),
        )
        .unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            command.args(["-u", "nobody"]);
        }
        let process = command.spawn().unwrap();
        let url = format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable");
        Some(Self { process, folder, url })
    }

    /// As soon as it answers.
    async fn connect(&mut self, schema: &str) -> Result<Db, ConnectError> {
        let url: DatabaseUrl = self.url.parse().unwrap();
        loop {
            assert!(self.process.try_wait().unwrap().is_none(), "pgbouncer does not run");
            match Db::connect(url.clone(), schema, MIGRATIONS).await {
                Err(ConnectError::Unavailable(why)) if why.contains("refused") => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_pooler_that_takes_a_session_apart_is_refused_and_one_that_keeps_it_together_is_not() {
    let Some(f) = Fixture::postgres().await else { return };
    for (mode, refused) in [("transaction", true), ("session", false)] {
        let Some(mut pooler) = PgBouncer::start(mode).await else { return };
        match pooler.connect(&f.schema).await {
            Ok(db) => {
                assert!(!refused, "{mode}");
                assert_eq!(db.query("SELECT available FROM stock", []).await.unwrap().len(), 1);
            }
            Err(error) => {
                assert!(refused, "{mode}: {error}");
                assert!(matches!(error, ConnectError::Misconfigured(_)), "{error:?}");
                assert!(error.to_string().contains("pool_mode"), "{error}");
            }
        }
    }
}
