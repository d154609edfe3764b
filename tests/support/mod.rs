//! What the end-to-end suites share: a server of their own, an object store beside it, and the
//! programs of real clients as child processes.

pub(crate) mod cluster;
pub(crate) mod network;
pub(crate) mod object_store;
pub(crate) mod program;
