//! The public API of the framework is the one that is written down: a change of it is seen in review.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

const UPDATE: &str = "UPDATE_PUBLIC_API=1 cargo test -p saga-public-api";

#[test]
fn the_public_api_of_saga_core_is_as_written_down() -> Result<()> {
    check("saga-core")
}

#[test]
fn the_public_api_of_saga_is_as_written_down() -> Result<()> {
    check("saga")
}

fn check(package: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{package}.txt"));
    let is = listing(package)?;
    if env::var("UPDATE_PUBLIC_API").is_ok_and(|value| value == "1") {
        return fs::write(&file, is).with_context(|| file.display().to_string());
    }
    let written = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let differences = differences(&written, &is);
    ensure!(
        differences.is_empty() && written == is,
        "the public API of {package} is not as in {}:\n{differences}\nIf that is meant: {UPDATE}",
        file.display()
    );
    Ok(())
}

/// Lines that one of them has and the other has not.
fn differences(written: &str, is: &str) -> String {
    let lines = |sign: char, of: &str, but: &str| -> String {
        let but: Vec<&str> = but.lines().collect();
        of.lines().filter(|line| !but.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    lines('-', written, is) + &lines('+', is, written)
}

/// One line per public item, without what is derived or follows from the types.
fn listing(package: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // What is compiled for the check of other things is used here too.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target folder")?;
    let mut rustdoc = Command::new(env!("CARGO"));
    rustdoc.args(["rustdoc", "--quiet", "--locked", "--lib", "--all-features", "-p", package]);
    rustdoc.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("rustdoc-json");
    rustdoc.env("RUSTDOC", script).env("CARGO_TARGET_DIR", target).current_dir(root);
    let output = rustdoc.output().context("cargo rustdoc")?;
    ensure!(output.status.success(), "cargo rustdoc -p {package}: {}", String::from_utf8_lossy(&output.stderr));
    let json = target.join("doc").join(format!("{}.json", package.replace('-', "_")));
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .context("this Rust's documentation cannot be read: raise public-api in tests/public-api/Cargo.toml")?;
    Ok(api.to_string())
}
