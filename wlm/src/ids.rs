//! The names of things: queries, tasks, queues, service classes, users and sessions.

use std::fmt;

/// One execution of a statement, as Redshift's system tables number it. A query that is restarted
/// goes on under a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// A statement's stay in workload management: it keeps its number when the query is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A user, by the number in `pg_user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub u32);

/// A session, by its process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

/// A user queue, by its place in the configuration, from 0. The last one is the default queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub usize);

/// A queue as the system tables number it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceClass(pub u16);

impl ServiceClass {
    /// The superuser queue.
    pub const SUPERUSER: Self = Self(5);
    /// The short query queue.
    pub const SHORT_QUERY: Self = Self(14);
    /// The first user queue of a manual configuration.
    pub const FIRST_MANUAL: Self = Self(6);
    /// The first user queue of an automatic configuration.
    pub const FIRST_AUTO: Self = Self(100);
}

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ServiceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
