//! What the system catalog shows of the running server: sessions, statements, workload management.

use wlm::{Priority, Scheduler};

use super::SystemCatalog;
use crate::engine::Engine;
use crate::workload::History;

impl SystemCatalog {
    /// The running server; tests of tables have none.
    pub(super) fn live(&self) -> Option<&Engine> {
        self.engine.as_deref()
    }

    /// The state of workload management as of now.
    pub(super) fn workload<T>(&self, read: impl FnOnce(&Scheduler, &History) -> T) -> Option<T> {
        Some(self.live()?.workload.read(read))
    }

    /// Whether the session's user may see rows about a user: its own, or all as a superuser and
    /// with SYSLOG ACCESS UNRESTRICTED.
    pub(super) fn sees(&self, user: u32) -> bool {
        self.snapshot
            .user(&self.session.current_user)
            .is_some_and(|own| own.oid == user || own.superuser || own.syslog_unrestricted)
    }
}

/// The first characters of a text.
pub(super) fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// A priority as the tables of figures number it.
pub(super) fn priority_number(priority: Priority) -> i32 {
    match priority {
        Priority::Lowest => 0,
        Priority::Low => 1,
        Priority::Normal => 2,
        Priority::High => 3,
        Priority::Highest => 4,
        Priority::Critical => 5,
    }
}
