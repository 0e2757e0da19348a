//! The flow fits together, and its drawing in the README is the flow's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use travel::choreography;

#[test]
fn the_participants_fit_together() {
    let findings: Vec<_> = choreography().check().iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn the_readme_shows_the_flow_as_it_is() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let is_drawn = readme.contains(&format!("```mermaid\n{}```", choreography().to_mermaid()));
    assert!(is_drawn, "out of date: cargo run -p travel -- graph --write examples/travel/README.md");
}
