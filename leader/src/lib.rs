//! The only process a client sees: wire, sessions, planning, catalog, commit.

pub mod authentication;
pub mod pgwire;
pub mod server;
pub mod tls;
