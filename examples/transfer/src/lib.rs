//! Money between accounts at two banks: the payer's bank debits, the payee's bank credits or refuses, and a refusal is refunded.

pub mod books;
pub mod demo;
pub mod events;
pub mod payee;
pub mod payer;

use saga::graph::Choreography;

/// The whole flow, to be checked, drawn and inspected.
pub fn choreography() -> Choreography {
    Choreography::of(vec![payer::participant().declaration(), payee::participant().declaration()])
}
