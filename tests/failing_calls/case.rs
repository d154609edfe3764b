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
    Read = 7,
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
    /// All from the nth on; with ENOSPC, of later opens those that make a file.
    Sticky,
    /// Half of the nth is done, and the next one fails.
    Short,
    /// Half of the nth is done, and all after it fail.
    StickyShort,
    /// As `Sticky`, in the process only in which the nth failed: the disk of one node.
    StickyThere,
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

pub(crate) const KINDS: [Kind; 8] = [
    Kind::Open,
    Kind::Write,
    Kind::Sync,
    Kind::Rename,
    Kind::Truncate,
    Kind::Remove,
    Kind::MakeDirectory,
    Kind::Read,
];

/// All series of cases: a place and a fault each.
pub(crate) fn all_series() -> Vec<(Place, Fault)> {
    let mut series = Vec::new();
    for place in [Place::First, Place::One, Place::Two] {
        for kind in KINDS {
            let there = if place == Place::Two { ways_there(kind) } else { vec![] };
            for (failure, mode) in ways(kind).into_iter().chain(there) {
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
    use {Failure::*, Mode::*};
    match kind {
        Kind::Open => vec![(Eio, Once), (Enospc, Once), (Eio, Sticky), (Enospc, Sticky)],
        Kind::Write => vec![
            (Eio, Once),
            (Enospc, Once),
            (Enospc, Sticky),
            (Enospc, Short),
            (Enospc, StickyShort),
        ],
        Kind::Sync | Kind::Rename | Kind::MakeDirectory => {
            vec![(Eio, Once), (Enospc, Once), (Enospc, Sticky)]
        }
        // They need no space.
        Kind::Truncate | Kind::Remove => vec![(Eio, Once), (Enospc, Once)],
        Kind::Read => vec![(Eio, Once), (Eio, Sticky)],
    }
}

/// And those on one node of several.
fn ways_there(kind: Kind) -> Vec<(Failure, Mode)> {
    match kind {
        Kind::Open | Kind::Read => vec![(Failure::Eio, Mode::StickyThere)],
        Kind::Write => vec![(Failure::Enospc, Mode::StickyThere)],
        // Its disk is given up after the first.
        Kind::Sync => vec![],
        Kind::Rename | Kind::Truncate | Kind::Remove | Kind::MakeDirectory => vec![],
    }
}

impl Case {
    /// Nothing fails.
    pub(crate) fn of_nothing(place: Place) -> Case {
        Case { place, fault: Fault::Nothing, nth: 0 }
    }

    /// Whether calls go on failing until the harness ends it.
    pub(crate) fn is_sticky(&self) -> bool {
        matches!(
            self.fault,
            Fault::File(_, _, Mode::Sticky | Mode::StickyShort | Mode::StickyThere)
        )
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.fault, Fault::File(..))
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
            Kind::Read => "read",
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
            Mode::StickyThere => "sticky_there",
        }
    }
}
