//! The service that `tests/process/best_effort.rs` kills while its compensations fail.

#[path = "../tests/common/ferry.rs"]
mod ferry;

fn main() -> std::process::ExitCode {
    ferry::ferry().run()
}
