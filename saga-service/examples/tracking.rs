//! The service that `tests/process/rounds.rs` kills between the rounds of its step.

#[path = "../tests/common/tracking.rs"]
mod tracking;

fn main() -> std::process::ExitCode {
    tracking::tracking().run()
}
