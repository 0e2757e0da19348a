//! Services, brokers and databases that are stopped, killed, paused and cut off while orders are in flight.

mod crowd;
mod deadline;
mod instances;
mod kill;
mod late_cancel;
mod neighbours;
mod outages;
mod shutdown;
mod static_member;
