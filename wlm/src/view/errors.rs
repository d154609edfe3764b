//! Errors of workload management itself: `stl_wlm_error`.

use crate::ids::{SessionId, UserId};
use crate::time::Time;

/// A row of `stl_wlm_error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WlmErrorRow {
    /// Whose query it was.
    pub userid: UserId,
    /// When.
    pub recordtime: Time,
    /// The session.
    pub pid: SessionId,
    /// What went wrong.
    pub error_string: String,
}
