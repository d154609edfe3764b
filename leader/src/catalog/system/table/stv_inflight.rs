//! stv_inflight: queries that run, once for each slice.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use crate::catalog::system::live::first;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 302,
    name: "stv_inflight",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("slice"),
        int4("query"),
        text("label"),
        nullable("xid", Kind::Int8),
        int4("pid"),
        nullable("starttime", Kind::Timestamp),
        text("text"),
        int4("suspended"),
        int4("insert_pristine"),
        int4("concurrency_scaling_status"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let Some(live) = catalog.live() else { return };
    for statement in live.activity.running() {
        let Some(query) = statement.query.filter(|_| catalog.sees(statement.user)) else {
            continue;
        };
        for slice in 0..live.cluster.layout().slices() {
            rows.add([
                ("userid", statement.user.into()),
                ("slice", slice.into()),
                ("query", query.0.into()),
                ("label", statement.label.clone().into()),
                ("xid", statement.xid.into()),
                ("pid", statement.process_id.into()),
                ("starttime", statement.started_us.into()),
                ("text", first(&statement.text, 100).into()),
            ]);
        }
    }
}
