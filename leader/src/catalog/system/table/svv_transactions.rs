//! svv_transactions: transactions that hold something or wait for it.
//!
//! Transactions that only read hold nothing and have no row.

use std::collections::BTreeMap;

use super::{OWN_OIDS, Rows, SystemTable};
use crate::activity::SessionRow;
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, bool, int4, nullable, text};
use crate::engine::DATABASE;
use crate::transaction::lock::{LockMode, Owner};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 333,
    name: "svv_transactions",
    is_view: true,
    columns: &[
        text("txn_owner"),
        text("txn_db"),
        nullable("xid", Kind::Int8),
        int4("pid"),
        nullable("txn_start", Kind::Timestamp),
        text("lock_mode"),
        text("lockable_object_type"),
        nullable("relation", Kind::Int4),
        bool("granted"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    let sessions: BTreeMap<i32, SessionRow> =
        live.activity.sessions().into_iter().map(|session| (session.process_id, session)).collect();
    let mut owners = BTreeMap::new();
    for row in live.transactions.locks().rows() {
        let Some(session) = visible(catalog, &sessions, row.owner) else { continue };
        owners.insert(row.owner.xid.0, row.owner);
        rows.add([
            ("txn_owner", session.user_name.clone().into()),
            ("txn_db", DATABASE.into()),
            ("xid", row.owner.xid.0.into()),
            ("pid", row.owner.process_id.into()),
            ("txn_start", row.owner.started_us.into()),
            ("lock_mode", mode(row.mode).into()),
            ("lockable_object_type", "relation".into()),
            ("relation", row.table.0.into()),
            ("granted", (!row.waits).into()),
        ]);
    }
    for owner in owners.into_values() {
        let Some(session) = visible(catalog, &sessions, owner) else { continue };
        rows.add([
            ("txn_owner", session.user_name.clone().into()),
            ("txn_db", DATABASE.into()),
            ("xid", owner.xid.0.into()),
            ("pid", owner.process_id.into()),
            ("txn_start", owner.started_us.into()),
            ("lock_mode", "ExclusiveLock".into()),
            ("lockable_object_type", "transactionid".into()),
            ("granted", true.into()),
        ]);
    }
}

/// The session of a transaction, if the user may see it. The server's own work has none.
fn visible<'a>(
    catalog: &SystemCatalog,
    sessions: &'a BTreeMap<i32, SessionRow>,
    owner: Owner,
) -> Option<&'a SessionRow> {
    sessions.get(&owner.process_id).filter(|session| catalog.sees(session.user))
}

/// In the words of Redshift.
fn mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Exclusive => "AccessExclusiveLock",
        LockMode::Shared => "ShareRowExclusiveLock",
        LockMode::Insert => "RowExclusiveLock",
    }
}
