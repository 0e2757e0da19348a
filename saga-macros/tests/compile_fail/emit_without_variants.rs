//! An error: an emit without variants.

use saga::prelude::*;

#[derive(Emit)]
enum Plan {}

fn main() {}
