//! stl_tr_conflict: transactions that failed because another one had changed what they read or wanted
//! to change.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, nullable};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 330,
    name: "stl_tr_conflict",
    is_view: true,
    columns: &[
        nullable("xact_id", Kind::Int8),
        nullable("process_id", Kind::Int8),
        nullable("xact_start_ts", Kind::Timestamp),
        nullable("abort_time", Kind::Timestamp),
        nullable("table_id", Kind::Int8),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    for row in live.conflicts.rows() {
        rows.add([
            ("xact_id", row.xid.0.into()),
            ("process_id", row.process_id.into()),
            ("xact_start_ts", row.started_us.into()),
            ("abort_time", row.aborted_us.into()),
            ("table_id", row.table.0.into()),
        ]);
    }
}
