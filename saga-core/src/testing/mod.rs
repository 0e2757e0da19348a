//! Test doubles that run the very same runtime: a store and a transport in memory, and a clock in virtual time.
