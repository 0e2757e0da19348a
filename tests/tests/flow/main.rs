//! Orders from their beginning to their end, in one world that all tests share.

mod endings;
