//! Draws a trace as an SVG: one that a Jaeger has, by its id, or one that was saved from its API.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use saga_tests::{
    Jaeger, drawing,
    jaeger::{Span, Trace},
};

const USAGE: &str = "\
Usage: draw-trace TRACE FILE.svg TITLE

TRACE is a file with an answer of Jaeger's /api/traces/ID, or the id of a trace of the Jaeger that JAEGER_QUERY_URL
names (http://127.0.0.1:16686). That one is drawn as soon as no more spans arrive for it, and shown as text too.";

/// Longer than services keep spans back before they send them.
const QUIET: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trace, file, title] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match draw(trace, file, title) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("draw-trace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn draw(trace: &str, file: &str, title: &str) -> Result<()> {
    let trace = if Path::new(trace).exists() {
        let answer = fs::read_to_string(trace).with_context(|| trace.to_owned())?;
        Trace::parse(&serde_json::from_str(&answer).with_context(|| trace.to_owned())?)?
    } else {
        ensure!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "neither a file nor an id: {trace}");
        let url = std::env::var("JAEGER_QUERY_URL").unwrap_or_else(|_| "http://127.0.0.1:16686".to_owned());
        let jaeger = Jaeger::at(&url, "")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(whole(&jaeger, trace))?
    };
    eprint!("{trace}");
    fs::write(file, drawing::svg(&trace, title)).with_context(|| file.to_owned())
}

/// The trace, once nothing is added to it any more.
async fn whole(jaeger: &Jaeger, id: &str) -> Result<Trace> {
    let started = Instant::now();
    let (mut spans, mut grew): (Vec<Span>, Instant) = (Vec::new(), started);
    loop {
        match jaeger.trace(id).await {
            Ok(trace) if trace.spans == spans && grew.elapsed() >= QUIET => return Ok(trace),
            Ok(trace) if trace.spans != spans => (spans, grew) = (trace.spans, Instant::now()),
            Ok(_) => {}
            Err(error) if started.elapsed() >= PATIENCE => return Err(error),
            Err(_) => {}
        }
        if started.elapsed() >= PATIENCE * 3 {
            bail!("spans of {id} arrive without end");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
