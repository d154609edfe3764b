//! What the leader says about a query when it arrives.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{SessionId, UserId};
use crate::time::Time;

/// Who runs a query, as far as routing goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Names of the user's groups.
    pub groups: Vec<String>,
    /// Names of the user's roles.
    pub roles: Vec<String>,
    /// Whether the user is a superuser.
    pub is_superuser: bool,
}

/// What kind of work a query is. It decides what a time limit or a rule may do to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryKind {
    /// Runs on the leader alone: catalog queries, SET, BEGIN, DDL. Never waits.
    LeaderOnly,
    /// Answered from the result cache. Never waits.
    CachedResult,
    /// Reads.
    Select,
    /// A query with user-defined functions.
    SelectWithUdf,
    /// CREATE TABLE AS and SELECT INTO.
    CreateTableAs,
    /// INSERT, UPDATE, DELETE.
    Write,
    /// UNLOAD.
    Unload,
    /// COPY.
    Copy,
    /// VACUUM and ANALYZE.
    Maintenance,
}

impl QueryKind {
    /// Whether the query runs on compute nodes and so is managed at all.
    pub fn is_managed(self) -> bool {
        !matches!(self, Self::LeaderOnly | Self::CachedResult)
    }

    /// Whether a running query may be taken down and started again: it has changed nothing that
    /// others could have seen.
    pub fn is_restartable(self) -> bool {
        matches!(self, Self::Select | Self::CreateTableAs)
    }

    /// Whether no rule and no execution time limit may stop it.
    pub(crate) fn is_protected(self) -> bool {
        matches!(self, Self::Copy | Self::Maintenance)
    }

    /// Whether short query acceleration may run it.
    pub(crate) fn can_be_short(self) -> bool {
        matches!(self, Self::Select | Self::CreateTableAs)
    }
}

/// What the planner knows of a query: the ground for predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanFeatures {
    /// A hash over the shape of the plan without its constants. Equal shapes are expected to
    /// behave alike. 0: unknown.
    pub shape: u64,
    /// Rows that the scans are expected to read.
    pub rows: u64,
    /// Bytes that the scans are expected to read.
    pub bytes: u64,
    /// Bytes that hash tables and sorts are expected to hold, on the fullest node.
    pub working_bytes: u64,
    /// Scans in the plan.
    pub scans: u32,
    /// Joins in the plan.
    pub joins: u32,
    /// Aggregations in the plan.
    pub aggregates: u32,
    /// Sorts and window functions in the plan.
    pub sorts: u32,
}

/// A query at its arrival.
#[derive(Debug, Clone)]
pub struct Request {
    /// The user's number.
    pub user: UserId,
    /// The session's number.
    pub session: SessionId,
    /// The transaction's number, for system tables.
    pub xid: u64,
    /// Groups and roles; shared by the queries of a session.
    pub identity: Arc<Identity>,
    /// The session's `query_group`, if it is set.
    pub query_group: Option<Arc<str>>,
    /// What kind of work it is.
    pub kind: QueryKind,
    /// The session's `wlm_query_slot_count`, at least 1.
    pub slot_count: u32,
    /// When the statement began; planning counts against its timeout.
    pub statement_started: Time,
    /// The session's `statement_timeout`, if it is set.
    pub statement_timeout: Option<Duration>,
    /// What the planner knows.
    pub features: PlanFeatures,
}

impl Request {
    /// When the statement timeout strikes.
    pub(crate) fn statement_deadline(&self) -> Option<Time> {
        self.statement_timeout.map(|timeout| self.statement_started.plus(timeout))
    }
}
