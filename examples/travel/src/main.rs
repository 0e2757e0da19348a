//! `cargo run -p travel`: trips of every ending in one process. With arguments it is the flow's own `saga`: `-- check`.

use std::{error::Error, process::ExitCode};

use saga::tools::output::{print, say};
use travel::{
    books::Ending,
    choreography,
    demo::{self, Customer},
};

/// Trips for each kind of customer.
const EACH: usize = 12;

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

/// Runs the trips and prints what happened; whether everything holds that must.
#[tokio::main]
async fn run() -> Result<bool, Box<dyn Error>> {
    let report = demo::run(EACH).await?;
    let mut text = format!("{} trips at once\n", EACH * Customer::ALL.len());
    for customer in Customer::ALL {
        for (ending, count) in report.endings.get(&customer).into_iter().flatten() {
            let ending = match ending {
                Ending::Confirmed => "confirmed".to_owned(),
                Ending::Cancelled(reason) => format!("cancelled, {reason}"),
            };
            text += &format!("  {:<26} {count:>3} {ending}\n", customer.title());
        }
    }
    text += "What must hold\n";
    let invariants = report.evidence.judge();
    for invariant in &invariants {
        text += &match &invariant.broken {
            None => format!("  yes  {}\n", invariant.what),
            Some(why) => format!("  NO   {}: {why}\n", invariant.what),
        };
    }
    print(&text)?;
    Ok(invariants.iter().all(|invariant| invariant.broken.is_none()))
}
