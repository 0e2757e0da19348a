//! `cargo run -p transfer`: transfers of every ending in one process. With arguments it is the flow's own `saga`: `-- check`.

use std::{error::Error, process::ExitCode};

use saga::tools::output::{print, say};
use transfer::{books::Ending, choreography, demo};

const TRANSFERS: usize = 300;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        return saga::tools::main(choreography());
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Runs the transfers and prints what happened; whether everything holds that must.
#[tokio::main]
async fn run() -> Result<bool, Box<dyn Error>> {
    let evidence = demo::run(TRANSFERS).await?;
    let counts = evidence.counts();
    let mut text = format!("{TRANSFERS} transfers at once, between two banks\n");
    for ending in Ending::ALL {
        text += &format!("  {:<26} {:>4}\n", ending.title(), counts.get(&ending).copied().unwrap_or_default());
    }
    text += &format!("What must hold, of {} cents\n", evidence.before);
    let invariants = evidence.judge();
    for invariant in &invariants {
        text += &match &invariant.broken {
            None => format!("  yes  {}\n", invariant.what),
            Some(why) => format!("  NO   {}: {why}\n", invariant.what),
        };
    }
    print(&text)?;
    Ok(invariants.iter().all(|invariant| invariant.broken.is_none()))
}
