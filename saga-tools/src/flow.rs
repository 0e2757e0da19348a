//! The flow that a command works on: the program's own, or the one named by `--flow`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Args;
use saga_core::{
    Namespace, dead_letter,
    graph::{Choreography, Declaration, DeclarationError},
};

/// The path at which a service serves its declaration.
const PARTICIPANT: &str = "/participant";
/// How long to wait for a service's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The flow to work on.
#[derive(Args, Clone, Debug, Default)]
pub struct FlowArgs {
    /// Work on this flow: a file or a folder of files written by `<service> --describe` or `saga graph --json`, or a running
    /// service (http://host:port). Repeatable; together the declarations are the flow
    #[arg(long, global = true, value_name = "FILE|DIR|URL")]
    flow: Vec<Source>,
}

/// A source of declarations.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Path(PathBuf),
    Service(reqwest::Url),
}

/// Why `--flow` gives no flow.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FlowError {
    #[error("--flow {place}: {why}")]
    Declaration { place: String, why: DeclarationError },
    #[error("--flow {path}: {cause}", path = .path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("--flow {0}: no declaration found: expected *.json files written by <service> --describe")]
    Nothing(String),
    #[error("--flow {url}: {why}")]
    Service { url: String, why: String },
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None if text.is_empty() => Err("expected a file, a folder or http://host:port".to_owned()),
            None => Ok(Self::Path(text.into())),
            Some(("http", _)) => {
                let mut url: reqwest::Url = text.parse().map_err(|_| "expected http://host:port".to_owned())?;
                // The address appears in error messages.
                if !url.username().is_empty() || url.password().is_some() {
                    return Err("it must hold no credentials".to_owned());
                }
                if url.path() == "/" {
                    url.set_path(PARTICIPANT);
                }
                Ok(Self::Service(url))
            }
            Some(_) => {
                Err("only http:// is asked directly; save what the service serves, and name the file".to_owned())
            }
        }
    }
}

impl FlowArgs {
    /// The flow named by `--flow`, if any.
    ///
    /// # Errors
    /// When a source is missing or holds no declaration.
    pub fn read(&self) -> Result<Option<Choreography>, FlowError> {
        if self.flow.is_empty() {
            return Ok(None);
        }
        let mut all: Vec<Declaration> = Vec::new();
        for declaration in self.flow.iter().map(Source::read).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            // Two processes of one service, or a service and its file, give the same declaration.
            if !all.iter().any(|known| *known == declaration && known.to_json() == declaration.to_json()) {
                all.push(declaration);
            }
        }
        Ok(Some(Choreography::of(all)))
    }

    /// Whether `--flow` was given.
    pub fn is_given(&self) -> bool {
        !self.flow.is_empty()
    }
}

impl Source {
    fn read(&self) -> Result<Vec<Declaration>, FlowError> {
        match self {
            Self::Path(path) if path.is_dir() => folder(path),
            Self::Path(path) => {
                let text = fs::read(path).map_err(|cause| FlowError::File { path: path.clone(), cause })?;
                declarations(&path.display().to_string(), &text)
            }
            Self::Service(url) => declarations(url.as_str(), &ask(url)?),
        }
    }
}

fn declarations(place: &str, text: &[u8]) -> Result<Vec<Declaration>, FlowError> {
    Declaration::read_all(text).map_err(|why| FlowError::Declaration { place: place.to_owned(), why })
}

/// The declarations in a folder. Other JSON files, such as schemas, are skipped.
fn folder(path: &Path) -> Result<Vec<Declaration>, FlowError> {
    let failed = |cause| FlowError::File { path: path.to_owned(), cause };
    let entries = fs::read_dir(path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json") && file.is_file());
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read(&file).map_err(|cause| FlowError::File { path: file.clone(), cause })?;
        match declarations(&file.display().to_string(), &text) {
            Err(FlowError::Declaration { why: DeclarationError::Format(format), .. }) if format.is_null() => {}
            found => all.extend(found?),
        }
    }
    if all.is_empty() { Err(FlowError::Nothing(path.display().to_string())) } else { Ok(all) }
}

fn ask(url: &reqwest::Url) -> Result<Vec<u8>, FlowError> {
    let failed = |why: String| FlowError::Service { url: url.to_string(), why };
    let lost = |error: reqwest::Error| {
        let cause = std::iter::successors(std::error::Error::source(&error), |cause| cause.source()).last();
        failed(format!("it does not answer: {}", cause.map_or_else(|| error.to_string(), ToString::to_string)))
    };
    let client = reqwest::blocking::Client::builder().timeout(PATIENCE).build().map_err(lost)?;
    let answer = client.get(url.clone()).send().map_err(lost)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(failed(format!("it answers with {status}; is it a service of this version?")));
    }
    Ok(answer.bytes().map_err(lost)?.to_vec())
}

/// The topics of a flow.
pub struct FlowTopics {
    /// Event topics, sorted.
    pub events: Vec<String>,
    /// Dead-letter topics, in the order of the participants.
    pub dead_letters: Vec<String>,
}

impl FlowTopics {
    /// The topics of this flow in this namespace.
    pub fn of(flow: &Choreography, namespace: &Namespace) -> Self {
        let named = |topic: &str| namespace.of(topic).into_owned();
        let mut events: Vec<String> = flow.events().map(|(_, node)| named(node.event.topic)).collect();
        events.sort_unstable();
        events.dedup();
        let dead_letters = flow.declarations().iter().map(|d| named(&dead_letter::topic(d.participant))).collect();
        Self { events, dead_letters }
    }

    /// Event topics and dead-letter topics.
    pub fn all(self) -> Vec<String> {
        [self.events, self.dead_letters].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::order_flow;

    fn read(sources: &[&str]) -> Result<Option<Choreography>, String> {
        let flow = sources.iter().map(|text| text.parse()).collect::<Result<_, String>>()?;
        FlowArgs { flow }.read().map_err(|error| error.to_string())
    }

    #[test]
    fn files_folders_and_both_together_are_one_flow() {
        let dir = std::env::temp_dir().join(format!("saga-flow-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        let flow = order_flow();
        for declaration in flow.declarations() {
            let path = dir.join(format!("{}.json", declaration.participant));
            fs::write(path, declaration.to_json().to_string()).unwrap();
        }
        fs::write(dir.join("schema.json"), r#"{"$id": "/schemas/order.created/1"}"#).unwrap();
        let (folder, one) = (dir.display().to_string(), dir.join("order.json").display().to_string());
        let read_again = read(&[&folder, &one]).unwrap().unwrap();
        assert_eq!(read_again.check(), []);
        assert_eq!(read_again.declarations().len(), 4, "one that is named twice is one");
        assert_eq!(read(&[&one]).unwrap().unwrap().declarations().len(), 1);
        fs::remove_file(dir.join("order.json")).unwrap();
        let missing = read(&[&one]).unwrap_err();
        assert!(missing.contains("order.json") && missing.contains("No such file"), "{missing}");
        let wrong = read(&[&dir.join("schema.json").display().to_string()]).unwrap_err();
        assert!(wrong.contains("--describe"), "{wrong}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_no_source_says_what_would_be_one() {
        assert_eq!(read(&[]).unwrap().map(|flow| flow.declarations().len()), None);
        assert!(read(&["https://flight:8080"]).unwrap_err().contains("only http://"));
        assert!(read(&["http://ada:secret@flight"]).unwrap_err().contains("no credentials"));
        let away = read(&["http://127.0.0.1:1"]).unwrap_err();
        assert!(away.contains("http://127.0.0.1:1/participant: it does not answer"), "{away}");
    }
}
