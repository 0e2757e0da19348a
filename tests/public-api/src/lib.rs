//! Listings of the framework's public API, `saga-core.txt` and `saga.txt`: see the test `listing`.
