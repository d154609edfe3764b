//! What a client sees: real drivers against a server of the built binary, hostile input, loading
//! from object storage, and recovery after a crash. What SQL alone can show is in `tests/slt`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helper functions of tests; a panic shows the line"
)]

#[path = "../support/mod.rs"]
mod support;

mod raw_wire;

mod alter_table;
mod cancel;
mod catalog;
mod changes;
mod cluster;
mod copy;
mod cursors;
mod flips;
mod history;
mod hostile_sql;
mod jdbc;
mod limits;
mod native;
mod odbc;
mod psql;
mod python;
mod recovery;
mod server;
mod streaming;
mod transactions;
mod users;
mod verify;
mod wire_security;
mod workload;
