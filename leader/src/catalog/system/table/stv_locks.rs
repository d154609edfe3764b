//! stv_locks: tables that are being changed, by whom, and who waits to change them.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, nullable, text};
use crate::transaction::lock::{LockMode, LockRow};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 332,
    name: "stv_locks",
    is_view: true,
    columns: &[
        nullable("table_id", Kind::Int8),
        nullable("last_commit", Kind::Timestamp),
        nullable("last_update", Kind::Timestamp),
        nullable("lock_owner", Kind::Int8),
        nullable("lock_owner_pid", Kind::Int8),
        nullable("lock_owner_start_ts", Kind::Timestamp),
        nullable("lock_owner_end_ts", Kind::Timestamp),
        text("lock_status"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    for row in live.transactions.locks().rows() {
        let history = live.transactions.history(row.table);
        // Nothing is known of commits before the server started.
        let last_commit = (history.committed_us > 0).then_some(history.committed_us);
        rows.add([
            ("table_id", row.table.0.into()),
            ("last_commit", last_commit.into()),
            ("last_update", history.changed.map(|changed| changed.us).into()),
            ("lock_owner", row.owner.xid.0.into()),
            ("lock_owner_pid", row.owner.process_id.into()),
            ("lock_owner_start_ts", row.owner.started_us.into()),
            ("lock_status", status(row).into()),
        ]);
    }
}

/// In the words of Redshift. One that changes rows beside others holds a delete lock, one that only
/// adds some an insert lock.
fn status(row: LockRow) -> &'static str {
    match (row.waits, row.mode) {
        (true, _) => "Waiting for write lock",
        (false, LockMode::Exclusive) => "Holding write lock",
        (false, LockMode::Shared) => "Holding delete lock",
        (false, LockMode::Insert) => "Holding insert lock",
    }
}
