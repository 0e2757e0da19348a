//! The shipping service's binary.

fn main() -> std::process::ExitCode {
    shipping_service::service().run()
}
