//! The judgements, on evidence that is made up.
