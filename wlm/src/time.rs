//! Points in time, as the caller's clock gives them. Nothing here reads a clock.

use std::time::Duration;

/// Microseconds since an epoch of the caller's choice (the Unix epoch, if timestamps of system
/// tables are to be made of it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// The point `span` later.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// What has passed since `earlier`; nothing if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A span in whole microseconds, the unit of the system tables.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
