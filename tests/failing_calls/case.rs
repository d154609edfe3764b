//! What is tried: which call fails, how, and on what kind of cluster. A case has a name by which it
//! can be run again, such as `one/write/EIO/once/17` or `two/message/copy/after/3`.

use std::fmt;

use faults::{Call, Moment};

/// Where, and from what state on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first start of a single node, in an empty directory.
    First,
    /// A single node with some tables.
    One,
    /// A leader and two nodes with some tables.
    Two,
}

/// Kinds of calls on files; the number of each is its place in the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open = 0,
    Write = 1,
    Sync = 2,
    Rename = 3,
    Truncate = 4,
    Remove = 5,
    MakeDirectory = 6,
}

/// What a call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Eio,
    Enospc,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The nth call.
    Once,
    /// All from the nth on.
    Sticky,
    /// Half of the nth is done, and the next one fails.
    Short,
    /// Half of the nth is done, and all after it fail.
    StickyShort,
}

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A call on a file.
    File(Kind, Failure, Mode),
    /// A message to a node.
    Message(Call, Moment),
    Nothing,
}

/// The nth call of a place that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) place: Place,
    pub(crate) fault: Fault,
    pub(crate) nth: u64,
}

pub(crate) const KINDS: [Kind; 7] = [
    Kind::Open,
    Kind::Write,
    Kind::Sync,
    Kind::Rename,
    Kind::Truncate,
    Kind::Remove,
    Kind::MakeDirectory,
];

/// All series of cases: a place and a fault each.
pub(crate) fn all_series() -> Vec<(Place, Fault)> {
    let mut series = Vec::new();
    for place in [Place::First, Place::One, Place::Two] {
        for kind in KINDS {
            for (failure, mode) in ways(kind) {
                series.push((place, Fault::File(kind, failure, mode)));
            }
        }
    }
    for call in Call::ALL {
        for moment in [Moment::Before, Moment::After] {
            series.push((Place::Two, Fault::Message(*call, moment)));
        }
    }
    series
}

/// All ways in which calls of a kind are let fail.
fn ways(kind: Kind) -> Vec<(Failure, Mode)> {
    let mut ways = vec![(Failure::Eio, Mode::Once), (Failure::Enospc, Mode::Once)];
    match kind {
        Kind::Write => {
            ways.push((Failure::Enospc, Mode::Sticky));
            ways.push((Failure::Enospc, Mode::Short));
            ways.push((Failure::Enospc, Mode::StickyShort));
        }
        Kind::Open | Kind::Sync | Kind::Rename | Kind::MakeDirectory => {
            ways.push((Failure::Enospc, Mode::Sticky));
        }
        // They need no space.
        Kind::Truncate | Kind::Remove => {}
    }
    ways
}

/// It is not known whether the transaction was committed.
pub(crate) const UNKNOWN: &str = "08007";
/// A sync has failed.
pub(crate) const SYNC_FAILED: &str = "58000";

impl Case {
    /// Whether calls go on failing until the harness ends it.
    pub(crate) fn is_sticky(&self) -> bool {
        matches!(self.fault, Fault::File(_, _, Mode::Sticky | Mode::StickyShort))
    }

    pub(crate) fn is_sync(&self) -> bool {
        matches!(self.fault, Fault::File(Kind::Sync, ..))
    }

    /// Whether a sync that fails ends all writes: where there is no other node that has the rows.
    pub(crate) fn fences(&self) -> bool {
        self.is_sync() && self.place != Place::Two
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.fault, Fault::File(..))
    }

    /// Whether a statement may fail so where this call has failed: the disk is full (53100), the disk
    /// fails (58030), what is on it is not known (58000, and 08007 of a commit). Where a node is
    /// gone over it, a cluster says so too.
    pub(crate) fn is_code(&self, code: &str) -> bool {
        let of_disk: &[&str] = match self.fault {
            Fault::Nothing | Fault::Message(..) => &[],
            Fault::File(Kind::Sync, ..) => &[SYNC_FAILED, "58030", "53100", UNKNOWN],
            // A file that is opened to be read needs no space: a disk that says so is broken.
            Fault::File(Kind::Open, Failure::Enospc, _) => &["53100", "58030"],
            Fault::File(_, Failure::Enospc, _) => &["53100"],
            Fault::File(_, Failure::Eio, _) => &["58030", SYNC_FAILED, UNKNOWN],
        };
        let of_cluster: &[&str] = match (self.place, self.fault) {
            (Place::First | Place::One, _) | (_, Fault::Nothing) => &[],
            (Place::Two, _) => &["58030", "08006", "57P03"],
        };
        of_disk.contains(&code) || of_cluster.contains(&code)
    }

    /// The name without the number.
    pub(crate) fn series(&self) -> String {
        let place = match self.place {
            Place::First => "first",
            Place::One => "one",
            Place::Two => "two",
        };
        match self.fault {
            Fault::Nothing => format!("{place}/nothing"),
            Fault::Message(call, moment) => {
                let moment = match moment {
                    Moment::Before => "before",
                    Moment::After => "after",
                };
                format!("{place}/message/{}/{moment}", call.name())
            }
            Fault::File(kind, failure, mode) => {
                format!("{place}/{}/{}/{}", kind.name(), failure.name(), mode.name())
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.series(), self.nth)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Write => "write",
            Kind::Sync => "sync",
            Kind::Rename => "rename",
            Kind::Truncate => "truncate",
            Kind::Remove => "remove",
            Kind::MakeDirectory => "mkdir",
        }
    }
}

impl Failure {
    /// As Linux numbers it.
    pub(crate) fn number(self) -> u64 {
        match self {
            Failure::Eio => 5,
            Failure::Enospc => 28,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Failure::Eio => "EIO",
            Failure::Enospc => "ENOSPC",
        }
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Once => "once",
            Mode::Sticky => "sticky",
            Mode::Short => "short",
            Mode::StickyShort => "sticky_short",
        }
    }
}
