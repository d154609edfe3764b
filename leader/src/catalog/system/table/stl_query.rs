//! stl_query: queries that have ended.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 303,
    name: "stl_query",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("query"),
        text("label"),
        nullable("xid", Kind::Int8),
        int4("pid"),
        text("database"),
        text("querytxt"),
        nullable("starttime", Kind::Timestamp),
        nullable("endtime", Kind::Timestamp),
        int4("aborted"),
        int4("insert_pristine"),
        int4("concurrency_scaling_status"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    for statement in live.activity.queries() {
        let Some(query) = statement.query.filter(|_| catalog.sees(statement.user)) else {
            continue;
        };
        rows.add([
            ("userid", statement.user.into()),
            ("query", query.0.into()),
            ("label", statement.label.into()),
            ("xid", statement.xid.into()),
            ("pid", statement.process_id.into()),
            ("database", statement.database.into()),
            ("querytxt", statement.text.to_string().into()),
            ("starttime", statement.started_us.into()),
            ("endtime", statement.ended_us.into()),
            ("aborted", i32::from(statement.aborted).into()),
        ]);
    }
}
