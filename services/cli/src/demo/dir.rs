//! The demo's folder: databases and log, gone at the end unless somebody wants to look at them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use saga_store::{DatabaseUrl, UrlError};

/// A folder that is removed when this value is dropped, unless it is kept.
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

    /// A participant's database file.
    pub(crate) fn database(&self, participant: &str) -> PathBuf {
        self.path.join(format!("{participant}.db"))
    }

    /// The sandbox gateway's own file, which payment puts beside its database.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.path.join("payment.sandbox_gateway.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("demo.log")
    }

    /// The database's address, as a binary would get it.
    pub(crate) fn url(&self, participant: &str) -> Result<DatabaseUrl, UrlError> {
        format!("sqlite://{}", self.database(participant).display()).parse()
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if !self.kept {
            // A folder of temporary files that cannot be removed is the operating system's to tidy.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
