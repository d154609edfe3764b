//! The leader: the only process a client sees, and the only one that decides a commit. It keeps no
//! user rows.
//!
//! The life of a query:
//!
//! 1. bytes -> [`pgwire`]: authentication, messages, portals -> text
//! 2. [`session`]: settings and the state of the transaction
//! 3. [`query`]: text -> `sql::parse` -> statement -> [`statement`], one file each
//! 4. `sql::Binder` over a [`catalog`] snapshot -> logical plan
//! 5. [`planner`]: rules, join order -> physical plan, on a large stack
//! 6. [`workload`]: waits for its turn, and gets its memory; [`activity`] shows it meanwhile
//! 7. [`execution`]: on the query threads; scans are `compute`'s
//! 8. record batches -> [`pgwire`] -> rows
//!
//! The life of a write: as above up to the plan; `compute::write_table`, on the node or, in a
//! [`cluster`], on each of them, makes segments that nobody
//! sees; [`transaction`] commits them through the catalog log, which is the one commit point.

pub mod activity;
pub mod authentication;
pub mod catalog;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod error;
pub mod execution;
pub mod pgwire;
pub mod planner;
mod private_file;
pub mod query;
pub mod server;
pub mod session;
mod start;
mod statement;
pub mod tls;
pub mod transaction;
pub mod vacuum;
pub mod verify;
pub mod workload;

pub use start::{log_to_stderr, serve_until_stopped, serve_with_nodes};
