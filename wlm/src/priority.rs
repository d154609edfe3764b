//! Priorities of automatic workload management, and what they are worth in CPU.

use std::fmt;

/// How important a query is. In a manual configuration every query is `Normal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Runs when nothing else wants to.
    Lowest,
    /// Below the default.
    Low,
    /// The default of a queue.
    Normal,
    /// Above the default.
    High,
    /// The highest that a queue can have.
    Highest,
    /// Set by a superuser for one query at a time; no queue has it.
    Critical,
}

impl Priority {
    /// The priorities that a queue can have, lowest first.
    pub const OF_QUEUES: [Self; 5] =
        [Self::Lowest, Self::Low, Self::Normal, Self::High, Self::Highest];

    /// The priority of a queue with this name, in any case; `Critical` is none.
    pub fn parse(name: &str) -> Option<Self> {
        Self::OF_QUEUES.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// The name as system tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lowest => "Lowest",
            Self::Low => "Low",
            Self::Normal => "Normal",
            Self::High => "High",
            Self::Highest => "Highest",
            Self::Critical => "Critical",
        }
    }

    /// The weight of a running query when CPU is divided: each level is worth two of the level
    /// below it.
    pub fn cpu_share(self) -> u32 {
        1 << self.rank()
    }

    /// 0 for `Lowest` to 5 for `Critical`.
    pub(crate) fn rank(self) -> usize {
        match self {
            Self::Lowest => 0,
            Self::Low => 1,
            Self::Normal => 2,
            Self::High => 3,
            Self::Highest => 4,
            Self::Critical => 5,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
