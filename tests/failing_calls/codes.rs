//! What a client may be told of a call that has failed, by its kind, its error number and its file.

use std::fmt;

use crate::case::{Case, Failure, Fault, Kind, Mode, Place};
use crate::run::DATA_DIRECTORY;

/// The disk is full.
pub(crate) const DISK_FULL: &str = "53100";
/// The disk fails.
pub(crate) const IO_ERROR: &str = "58030";
/// A sync has failed, or the catalog could not be written: no write is taken any more.
pub(crate) const SYNC_FAILED: &str = "58000";
/// It is not known whether the transaction was committed.
pub(crate) const UNKNOWN: &str = "08007";
/// There is no such table.
pub(crate) const UNDEFINED_TABLE: &str = "42P01";

/// The call that failed first: its name and the path, or the name of the message.
pub(crate) struct FailedCall(pub(crate) String);

impl FailedCall {
    /// Whether it was on a file of SQLite's.
    fn is_of_catalog(&self) -> bool {
        self.file_name().starts_with("catalog.sqlite")
    }

    /// Whether it was on the catalog's directory. SQLite syncs it when it makes a file, and tells
    /// nobody if that fails; the server syncs it itself afterwards, and does not start if that fails.
    fn is_of_catalog_directory(&self) -> bool {
        self.file_name() == DATA_DIRECTORY
    }

    fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for FailedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Case {
    /// Whether no write may be taken from the call on: a sync has failed in the only place of the rows
    /// or of the catalog.
    pub(crate) fn fences(&self, call: &FailedCall) -> bool {
        let is_only_place = self.place != Place::Two && !call.is_of_catalog_directory();
        let is_only_place = is_only_place || call.is_of_catalog();
        matches!(self.fault, Fault::File(Kind::Sync, ..)) && is_only_place
    }

    /// Whether no write may be taken after a statement was refused so: the catalog could not be written,
    /// and not for want of space.
    pub(crate) fn is_fence(&self, call: &FailedCall, code: &str) -> bool {
        let is_of_sync = [SYNC_FAILED, UNKNOWN].contains(&code);
        // Where calls on its directory go on failing, those on other files do too.
        let is_of_catalog = call.is_of_catalog() && code == IO_ERROR;
        let may_be_of_catalog = self.may_be_of_catalog(call) || self.closes_all_nodes();
        is_of_catalog || may_be_of_catalog && is_of_sync
    }

    /// Whether calls on the catalog may have failed.
    fn may_be_of_catalog(&self, call: &FailedCall) -> bool {
        call.is_of_catalog() || call.is_of_catalog_directory() && self.is_sticky()
    }

    /// Whether a statement may be refused so over the call, `commits` says whether it would have
    /// committed.
    pub(crate) fn is_code(&self, call: &FailedCall, commits: bool, code: &str) -> bool {
        let is_of_catalog = self.may_be_of_catalog(call);
        let right: &[&str] = match self.fault {
            Fault::Nothing => &[],
            Fault::Message(..) => &[IO_ERROR],
            Fault::File(Kind::Sync, ..) if is_of_catalog && commits => &[SYNC_FAILED, UNKNOWN],
            // Of nodes that have all closed themselves; or of the catalog, which no more can be synced.
            Fault::File(Kind::Sync, ..) if self.closes_all_nodes() && commits => {
                &[IO_ERROR, DISK_FULL, SYNC_FAILED, UNKNOWN]
            }
            Fault::File(Kind::Sync, ..) if self.closes_all_nodes() => &[IO_ERROR, DISK_FULL],
            // The other node goes on with the statement.
            Fault::File(Kind::Sync, ..) if self.place == Place::Two => &[],
            // What the slices of a statement meet first.
            Fault::File(Kind::Sync, ..) if self.is_sticky() => &[SYNC_FAILED, DISK_FULL],
            Fault::File(Kind::Sync, ..) => &[SYNC_FAILED],
            // SQLite does not say why it could not open a file. Another file may be the next.
            Fault::File(Kind::Open, Failure::Enospc, _) if is_of_catalog && self.is_sticky() => {
                &[IO_ERROR, DISK_FULL]
            }
            Fault::File(Kind::Open, Failure::Enospc, _) if is_of_catalog => &[IO_ERROR],
            Fault::File(_, Failure::Enospc, _) => &[DISK_FULL],
            Fault::File(_, Failure::Eio, _) => &[IO_ERROR],
        };
        let is_fenced = is_of_catalog && self.is_sticky() && code == SYNC_FAILED;
        right.contains(&code) || is_fenced
    }

    /// Whether a write may be refused so that comes after it is known that none may be taken.
    pub(crate) fn is_code_of_fenced(&self, code: &str) -> bool {
        // A disk that is full or broken meanwhile may be met first.
        let of_disk = match self.fault {
            Fault::File(_, Failure::Enospc, _) if self.is_sticky() => Some(DISK_FULL),
            Fault::File(_, Failure::Eio, _) if self.is_sticky() => Some(IO_ERROR),
            _ => None,
        };
        let is_closed = self.closes_all_nodes() && code == IO_ERROR;
        code == SYNC_FAILED || of_disk == Some(code) || is_closed
    }

    /// Whether a read may meet the call itself.
    pub(crate) fn is_of_reads(&self) -> bool {
        matches!(self.fault, Fault::File(Kind::Open | Kind::Read, ..))
    }

    /// Whether reads of what is not in memory go on failing.
    pub(crate) fn keeps_from_reading(&self) -> bool {
        let Fault::File(kind, Failure::Eio, mode) = self.fault else { return false };
        let goes_on = matches!(mode, Mode::Sticky | Mode::StickyThere);
        goes_on && matches!(kind, Kind::Open | Kind::Read)
    }

    /// Whether both nodes have closed themselves, since neither can sync: nothing can be read then.
    pub(crate) fn closes_all_nodes(&self) -> bool {
        let is_sync = matches!(self.fault, Fault::File(Kind::Sync, ..));
        self.place == Place::Two && is_sync && self.is_sticky()
    }
}
