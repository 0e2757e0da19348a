//! The order service's binary.

fn main() -> std::process::ExitCode {
    order_service::service().run()
}
