//! `saga schemas`: the generated contracts, one JSON Schema per event and version, and the graph.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use saga_core::graph::Choreography;
use serde_json::Value;

use crate::{
    output::{OutputError, pretty, print},
    schema::schema_of,
};

/// Write the generated contracts: a JSON Schema per event and version, and the graph
#[derive(Args)]
pub(crate) struct Schemas {
    /// Write nothing; exit with 1 when a file differs from what would be written
    #[arg(long)]
    check: bool,
    /// The folder of the contracts
    #[arg(value_name = "DIR", default_value = "schemas")]
    dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemasError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("a schema cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

impl Schemas {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, SchemasError> {
        let changes = changes(&self.dir, &files(flow)?)?;
        let mut report = String::new();
        for (path, change) in &changes {
            if !self.check {
                change.apply(path).map_err(at(path))?;
            }
            report.push_str(&format!("{} {}\n", change.word(self.check), path.display()));
        }
        if changes.is_empty() {
            report.push_str("the contracts are up to date\n");
        } else if self.check {
            report.push_str("to write them: the same command without --check\n");
        }
        print(&report)?;
        Ok(if self.check && !changes.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Lists the differences between the contracts on disk and the flow.
///
/// # Errors
/// When the folder cannot be read.
pub fn schemas_that_differ(flow: &Choreography, dir: &Path) -> anyhow::Result<Vec<String>> {
    let changes = changes(dir, &files(flow)?)?;
    Ok(changes.iter().map(|(path, change)| format!("{} {}", change.word(true), path.display())).collect())
}

/// The change that a file needs.
#[derive(PartialEq, Eq, Debug)]
enum Change {
    Add(String),
    Update(String),
    Remove,
}

impl Change {
    fn apply(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Add(text) | Self::Update(text) => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(path, text)
            }
            Self::Remove => fs::remove_file(path),
        }
    }

    fn word(&self, only_checked: bool) -> &'static str {
        match (self, only_checked) {
            (Self::Add(_), true) => "missing",
            (Self::Update(_), true) => "differs",
            (Self::Remove, true) => "unknown",
            (Self::Add(_) | Self::Update(_), false) => "wrote",
            (Self::Remove, false) => "removed",
        }
    }
}

/// The generated files by their paths in the folder.
fn files(flow: &Choreography) -> Result<BTreeMap<PathBuf, String>, SchemasError> {
    let mut files = BTreeMap::new();
    for (key, node) in flow.events() {
        files.insert(PathBuf::from(format!("{key}.json")), pretty(&schema_of(node.event))?);
    }
    files.insert("choreography.json".into(), pretty(flow)?);
    files.insert("choreography.mmd".into(), flow.to_mermaid());
    Ok(files)
}

/// The files that differ on disk, including schemas of events that no longer exist.
fn changes(dir: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<(PathBuf, Change)>, SchemasError> {
    let mut changes = Vec::new();
    for (name, text) in files {
        let path = dir.join(name);
        match fs::read_to_string(&path) {
            Ok(found) if found == *text => {}
            Ok(_) => changes.push((path, Change::Update(text.clone()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => changes.push((path, Change::Add(text.clone()))),
            Err(cause) => return Err(at(&path)(cause)),
        }
    }
    let wanted: BTreeSet<PathBuf> = files.keys().map(|name| dir.join(name)).collect();
    changes
        .extend(schemas_in(dir)?.into_iter().filter(|path| !wanted.contains(path)).map(|path| (path, Change::Remove)));
    Ok(changes)
}

/// The schemas written by this command: `<event>/<version>.json` with the matching `$id`.
fn schemas_in(dir: &Path) -> Result<Vec<PathBuf>, SchemasError> {
    let mut schemas = Vec::new();
    for folder in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&folder)? {
            let written = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let name = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
            let id = folder.file_name().zip(name(&path)).map(|(f, v)| format!("/schemas/{}/{v}", f.to_string_lossy()));
            if id.is_some() && written.as_ref().and_then(|schema| schema["$id"].as_str()) == id.as_deref() {
                schemas.push(path);
            }
        }
    }
    schemas.sort();
    Ok(schemas)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, SchemasError> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(at(dir))).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(at(dir)(cause)),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> SchemasError {
    move |cause| SchemasError::File { path: path.to_owned(), cause }
}
