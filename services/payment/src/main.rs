//! The payment service's binary.

fn main() -> std::process::ExitCode {
    payment_service::service().run()
}
