//! The order service's binary.

fn main() -> std::process::ExitCode {
    saga_service::main::<order_service::Order>()
}
