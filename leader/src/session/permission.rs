//! What the session's user may do. There are owners and superusers; GRANT is not supported yet.

use super::Session;
use crate::catalog::Snapshot;
use crate::engine::PUBLIC;
use crate::error::{Error, Result, code};

impl Session {
    /// Whether the user may do everything.
    pub fn is_superuser(&self) -> bool {
        let snapshot = self.engine.transactions.snapshot();
        snapshot.user_by_oid(self.user_oid).is_some_and(|user| user.superuser)
    }

    /// Refuses all but superusers. `what` completes "must be superuser to".
    pub fn require_superuser(&self, what: &str) -> Result<()> {
        if self.is_superuser() {
            return Ok(());
        }
        let message = format!("must be superuser to {what}");
        Err(Error::statement(code::INSUFFICIENT_PRIVILEGE, message))
    }

    /// Refuses all but the owner and superusers.
    pub fn check_owner(&self, owner: &str, kind: &str, name: &str) -> Result<()> {
        if owner == self.user || self.is_superuser() {
            return Ok(());
        }
        Err(denied(kind, name))
    }

    /// Whether the user may create in a schema: everybody in public, else its owner.
    pub(super) fn check_creation(&self, snapshot: &Snapshot, schema: &str) -> Result<()> {
        match snapshot.schema(schema) {
            Some(entry) if schema != PUBLIC => self.check_owner(&entry.owner, "schema", schema),
            Some(_) | None => Ok(()),
        }
    }
}

/// `permission denied for relation x`
pub(super) fn denied(kind: &str, name: &str) -> Error {
    let message = format!("permission denied for {kind} {name}");
    Error::statement(code::INSUFFICIENT_PRIVILEGE, message)
}
