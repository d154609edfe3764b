//! The Postgres wire protocol, version 3: from bytes to calls on a session, and back.
//!
//! The message layer is our own (see `docs/design/0003-wire.md` for the reason).

pub mod backend;
pub(crate) mod connection;
mod datetime;
mod decode;
mod encode;
mod extended_query;
mod message;
mod number;
pub mod registry;
pub mod report;
mod result;
mod simple_query;
mod startup;
mod transport;
pub mod types;
