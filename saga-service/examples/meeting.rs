//! The service that `tests/process/joins.rs` kills between the arrivals of its join.

#[path = "../tests/common/meeting.rs"]
mod meeting;

fn main() -> std::process::ExitCode {
    meeting::meeting().run()
}
