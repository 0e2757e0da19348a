//! `saga new`: writes a project with one participant, its test and its `main`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use crate::output::{OutputError, print};

/// The project's files and their contents.
const FILES: [(&str, &str); 9] = [
    ("Cargo.toml", include_str!("../../templates/participant/Cargo.toml.in")),
    ("README.md", include_str!("../../templates/participant/README.md")),
    (".cargo/config.toml", include_str!("../../templates/participant/cargo-config.toml")),
    (".gitignore", include_str!("../../templates/participant/gitignore")),
    ("src/events.rs", include_str!("../../templates/participant/src/events.rs")),
    ("src/lib.rs", include_str!("../../templates/participant/src/lib.rs")),
    ("src/main.rs", include_str!("../../templates/participant/src/main.rs")),
    ("src/participant.rs", include_str!("../../templates/participant/src/participant.rs")),
    ("tests/participant.rs", include_str!("../../templates/participant/tests/participant.rs")),
];
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Write a project with one participant: events, a step, its compensation, a test, and a service
#[derive(Args)]
pub(crate) struct New {
    /// The participant's name, which is also its consumer group: lower-case letters, digits and underscores
    #[arg(value_parser = name)]
    name: String,
    /// The folder to create [default: the participant's name]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Depend on the crate `saga` in this folder instead of the framework's repository
    #[arg(long, value_name = "DIR")]
    framework: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{}: no crate named saga", .0.display())]
    NoFramework(PathBuf),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl New {
    pub(crate) fn run(self) -> Result<ExitCode, NewError> {
        let Self { name, dir, framework } = self;
        let dir = dir.unwrap_or_else(|| name.clone().into());
        if dir.exists() {
            return Err(NewError::Exists(dir));
        }
        let framework = match framework {
            None => format!("git = {REPOSITORY:?}"),
            Some(path) => {
                // Either the crate's folder or the repository around it.
                let found = [path.clone(), path.join("saga")].into_iter().find(|path| is_saga(path));
                let found = found.and_then(|path| path.canonicalize().ok());
                format!("path = {:?}", found.ok_or(NewError::NoFramework(path))?)
            }
        };
        for (file, text) in FILES {
            let text = text.replace("{name}", &name).replace("{crate}", &name);
            write(&dir.join(file), &text.replace("{framework}", &framework))?;
        }
        let shown = dir.display();
        print(&format!(
            "{shown}: a participant with one step. Next:\n  cd {shown}\n  cargo test\n  cargo run\nIts README.md says what comes then.\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn is_saga(path: &Path) -> bool {
    fs::read_to_string(path.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line == "name = \"saga\""))
}

fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|cause| NewError::File { path: path.to_owned(), cause })
}

/// A name that is valid as a crate, as a consumer group and as the first part of an event's name.
fn name(text: &str) -> Result<String, String> {
    let is_name = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match text.bytes().next() {
        _ if text == "saga" => Err("saga is the crate that it depends on: choose another name".to_owned()),
        Some(first) if is_name && first.is_ascii_lowercase() && text.len() <= 32 => Ok(text.to_owned()),
        _ => Err("expected up to 32 lower-case letters, digits and underscores, starting with a letter".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_crate_a_group_and_an_event() {
        assert!(name("flight").is_ok() && name("flight_2").is_ok());
        for bad in ["", "saga", "Flight", "2flight", "flight-2", "a b", "../x", &"a".repeat(33)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_of_the_template_is_left_open() {
        for (file, text) in FILES {
            let text = text.replace("{name}", "").replace("{crate}", "").replace("{framework}", "");
            assert!(!["{name", "{crate", "{framework"].iter().any(|open| text.contains(open)), "{file}");
        }
    }
}
