//! The service that `tests/process/` starts, stops and misconfigures.

#[path = "../tests/common/probe.rs"]
mod probe;

fn main() -> std::process::ExitCode {
    probe::probe().run()
}
