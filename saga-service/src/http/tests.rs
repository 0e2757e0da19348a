//! The guards and endpoints, without a socket.
