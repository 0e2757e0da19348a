//! The demo's folder with databases and log, removed at the end unless it is kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use saga_store::{DatabaseUrl, UrlError};

/// A folder that is removed on drop unless it is kept.
pub(crate) struct DataDir {
    path: PathBuf,
    kept: bool,
}

impl DataDir {
    pub(crate) fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("saga-demo-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(&path)?;
        Ok(Self { path, kept: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a participant's database.
    pub(crate) fn database(&self, participant: &str) -> PathBuf {
        self.path.join(format!("{participant}.db"))
    }

    /// The path of the sandbox gateway's database, beside payment's.
    pub(crate) fn charges_database(&self) -> PathBuf {
        self.path.join("payment.sandbox_gateway.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("demo.log")
    }

    /// The database's address, as a service gets it.
    pub(crate) fn url(&self, participant: &str) -> Result<DatabaseUrl, UrlError> {
        format!("sqlite://{}", self.database(participant).display()).parse()
    }

    /// Keeps the folder.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if !self.kept {
            // The operating system cleans up temporary files that cannot be removed here.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
