//! The binary of the {name} service.

fn main() -> std::process::ExitCode {
    {crate}::service().run()
}
