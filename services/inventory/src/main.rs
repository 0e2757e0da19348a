//! The inventory service's binary.

fn main() -> std::process::ExitCode {
    inventory_service::service().run()
}
