//! `saga graph`: the flow as a drawing, or as JSON.

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::Args;

use saga_core::graph::Choreography;

use crate::output::{OutputError, print, print_json};

const START: &str = "<!-- graph:start -->";
const END: &str = "<!-- graph:end -->";

/// Draw the flow as a Mermaid flowchart
#[derive(Args)]
pub(crate) struct Graph {
    /// Print the flow as JSON instead: participants, events and edges
    #[arg(long, conflicts_with = "write")]
    json: bool,
    /// Put the drawing between the lines <!-- graph:start --> and <!-- graph:end --> of this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GraphError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{}: has no line {START} with a line {END} after it", .0.display())]
    NoMarkers(PathBuf),
}

impl Graph {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, GraphError> {
        match self.write {
            _ if self.json => print_json(flow)?,
            None => print(&flow.to_mermaid())?,
            Some(path) => {
                let failed = |cause| GraphError::File { path: path.clone(), cause };
                let text = fs::read_to_string(&path).map_err(failed)?;
                let drawn = embed(&text, &flow.to_mermaid()).ok_or_else(|| GraphError::NoMarkers(path.clone()))?;
                if drawn != text {
                    fs::write(&path, drawn).map_err(failed)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Replaces the text between the markers.
fn embed(text: &str, drawing: &str) -> Option<String> {
    let start = text.find(START)? + START.len();
    let end = start + text[start..].find(END)?;
    Some(format!("{}\n```mermaid\n{drawing}```\n{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("# Title\n{START}\nold\n{END}\nrest\n");
        let once = embed(&text, "flowchart LR\n").unwrap();
        assert_eq!(once, format!("# Title\n{START}\n```mermaid\nflowchart LR\n```\n{END}\nrest\n"));
        assert_eq!(embed(&once, "flowchart LR\n").unwrap(), once);
        assert_eq!(embed(&format!("{END}\n{START}"), ""), None);
    }
}
