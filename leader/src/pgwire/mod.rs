//! The Postgres wire protocol, version 3: from bytes to calls on a session, and back.
//!
//! The message layer is our own (see `docs/design/0003-wire.md` for the reason).

pub mod backend;
pub mod report;
