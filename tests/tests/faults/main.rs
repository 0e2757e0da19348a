//! Services that are stopped, killed, frozen and multiplied while orders are under way.

mod deadline;
mod instances;
mod kill;
mod late_cancel;
mod terminate;
