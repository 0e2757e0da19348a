//! The patterns of docs/patterns.md: every line of code that it shows stands in a program that is compiled, here or in an example.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod bridge;
mod fallback;
mod orchestration;
mod tcc;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the lines of the document may stand.
const SOURCES: [&str; 4] = ["examples", "saga/tests/patterns", "services", "saga-core/tests"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Lines without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The pieces of a block that stand in one place: `// ..` is where something is left out.
fn pieces(block: &str) -> Vec<Vec<&str>> {
    lines(block).split(|line| *line == "// ..").filter(|piece| !piece.is_empty()).map(<[&str]>::to_vec).collect()
}

#[test]
fn what_the_document_shows_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    SOURCES.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let programs: Vec<Vec<&str>> = texts.iter().map(|text| lines(text)).collect();
    let document = fs::read_to_string(root.join("docs/patterns.md")).unwrap();
    let blocks: Vec<&str> =
        document.split("\n```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default()).collect();
    assert!(blocks.len() > 10, "{} blocks", blocks.len());
    let stand_nowhere =
        |piece: &Vec<&str>| !programs.iter().any(|program| program.windows(piece.len()).any(|window| window == piece));
    let missing: Vec<String> =
        blocks.into_iter().flat_map(pieces).filter(stand_nowhere).map(|piece| piece.join("\n")).collect();
    assert!(missing.is_empty(), "no program has these lines:\n{}", missing.join("\n---\n"));
}
