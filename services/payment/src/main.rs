//! The payment service's binary.

fn main() -> std::process::ExitCode {
    saga_service::main::<payment_service::Payment>()
}
