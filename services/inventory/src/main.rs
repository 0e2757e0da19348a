//! The inventory service's binary.

fn main() -> std::process::ExitCode {
    saga_service::main::<inventory_service::Inventory>()
}
