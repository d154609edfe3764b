//! svl_qlog: queries that have ended, in short.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use crate::catalog::system::live::first;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 305,
    name: "svl_qlog",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("query"),
        nullable("xid", Kind::Int8),
        int4("pid"),
        nullable("starttime", Kind::Timestamp),
        nullable("endtime", Kind::Timestamp),
        nullable("elapsed", Kind::Int8),
        int4("aborted"),
        text("label"),
        text("substring"),
        nullable("source_query", Kind::Int4),
        text("concurrency_scaling_status_txt"),
        nullable("from_sp_call", Kind::Int4),
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
            ("xid", statement.xid.into()),
            ("pid", statement.process_id.into()),
            ("starttime", statement.started_us.into()),
            ("endtime", statement.ended_us.into()),
            ("elapsed", statement.ended_us.map(|end| end - statement.started_us).into()),
            ("aborted", i32::from(statement.aborted).into()),
            ("label", statement.label.into()),
            ("substring", first(&statement.text, 60).into()),
            ("concurrency_scaling_status_txt", "0 - Ran on the main cluster".into()),
        ]);
    }
}
