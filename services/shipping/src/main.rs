//! The shipping service's binary.

fn main() -> std::process::ExitCode {
    saga_service::main::<shipping_service::Shipping>()
}
