//! What the compiler says of code that is wrong: each message names what to do. The snapshots are written anew with
//! `TRYBUILD=overwrite cargo test -p saga-macros --test compile_fail`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::process::Command;

/// Each compiler words its messages in its own way, so they are compared under the one that the snapshots are of.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = String::from_utf8(Command::new(rustc).arg("--version").output().unwrap().stdout).unwrap();
    if version.starts_with(COMPILER) {
        trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
    } else {
        println!("skipped: the snapshots are of {COMPILER}, and this is {version}");
    }
}
